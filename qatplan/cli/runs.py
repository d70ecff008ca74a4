"""`qatplan runs`: validate and summarise tables of runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from qatplan.cli import options as opt
from qatplan.cli.output import note, plain, show
from qatplan.errors import DataError, UsageError

if TYPE_CHECKING:
    from qatplan.wording.sections import Section


def runs(
    paths: opt.RunPaths,
    rows: opt.Rows = None,
    fields: Annotated[bool, opt.flag("--fields", "Describe every column, too.")] = False,
    compact: Annotated[Path | None, opt.ask("Also write the rows as one file.", "FILE.parquet")] = None,
    force: opt.Force = False,
    as_json: opt.Json = False,
) -> None:
    """Check and summarise tables of runs, or merge them.

    Every row is checked; rows that cannot be used are listed with their file and reason, and the command then ends
    with 3.

    Example: qatplan runs sweep/ --rows "bits == 4"
    """
    from qatplan.runs import FIELDS, digest, inspect, select, write
    from qatplan.runs.summary import summarise
    from qatplan.storage.target import check_target

    if compact is not None:
        if compact.suffix != ".parquet":
            raise UsageError(f"--compact is {compact}; a runs table is a .parquet file.")
        check_target(compact, reads=paths, force=force, option="--compact")
    found, problems, notes = inspect(paths)
    note(*(f"note: {remark}" for remark in notes))
    if rows is not None:
        found = select(found, rows)
        if not found.num_rows:
            raise DataError(f'no run is left by --rows "{rows}".')
    if compact is not None:
        if problems:
            raise DataError(f"{compact} was not written, for a row cannot be used: {problems[0]}")
        # In the order of their ids, so that the same runs give the same file.
        write(found.sort_by("run_id"), compact)
    summary = summarise(found)
    shown: dict[str, Any] = {**plain(summary), "digest": digest(found)}
    shown["problems"] = [{**p._asdict(), "file": str(p.file)} for p in problems]
    if fields:
        shown["fields"] = [{"name": f.name, "type": str(f.type), "unit": f.unit, "meaning": f.meaning} for f in FIELDS]

    def sections() -> list[Section]:
        from qatplan.wording.runs import field_section, problem_section, summary_sections

        return [*summary_sections(summary), *([field_section(FIELDS)] if fields else []), problem_section(problems)]

    show(shown, sections, as_json)
    if problems:
        bad = len({(p.file, p.row) for p in problems})
        raise DataError(f"{bad} {'row' if bad == 1 else 'rows'} cannot be used; the first: {problems[0]}")
