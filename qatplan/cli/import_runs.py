"""`qatplan import`: anybody's table of runs into our schema."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qatplan.cli import options as opt
from qatplan.cli.output import note, show
from qatplan.errors import DataError, NotTrustworthy, UsageError, shorten

if TYPE_CHECKING:
    from qatplan.wording.sections import Section


_SOURCE = (
    "CSV, JSON, JSON Lines (each also .gz, .zst), Parquet or .xlsx, one row per run, or a folder of them; "
    "mlflow:URI or wandb:ENTITY/PROJECT for a tracker."
)
_MAP = "Where a field comes from: a column, or arithmetic such as d_total=flops/(6*n), loss=log(ppl); repeatable."
_CONST = "A value for a field in every row; repeatable."
_FIRST = 5
"""Rows that --dry-run shows."""


def import_runs(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=_SOURCE)],
    out: Annotated[Path | None, opt.ask("The runs table to write; default SOURCE's name.", "RUNS.parquet")] = None,
    mapping: Annotated[list[str] | None, typer.Option("--map", metavar="FIELD=COLUMN", help=_MAP)] = None,
    constants: Annotated[list[str] | None, typer.Option("--const", metavar="FIELD=VALUE", help=_CONST)] = None,
    diverged: Annotated[bool, opt.flag("--diverged", "Record a loss that is NaN or infinite as diverged.")] = False,
    keep_suspect: Annotated[bool, opt.flag("--keep-suspect", "Also write sound rows that look wrong.")] = False,
    dry_run: Annotated[bool, opt.flag("--dry-run", "Show the first rows as they would be, and write nothing.")] = False,
    limit: Annotated[int | None, opt.ask("Memory the rows may take.", "BYTES", parser=opt.bytes_parser)] = None,
    force: opt.Force = False,
    as_json: opt.Json = False,
) -> None:
    """Turn anybody's table of runs into ours.

    Every row is written, or listed with the reason why not; the exit code is 4 where some cannot be used. With SOURCE
    alone, the columns are matched to fields by their names, ranges and arithmetic: the table is written where that
    leaves nothing open, else the command that confirms the map is printed.

    FIELD is n_params, n_embedding, n_nonembedding, d_fp, d_qat, d_total, fraction, bits, loss, seed, run_id or any
    other column that `qatplan runs RUNS --fields` describes. Run tables of W&B and MLflow are recognised.

    \b
    Example: qatplan import theirs.csv --out runs.parquet --map n_params=N \\
                 --map d_total="flops/(6*N)" --map loss=val_loss
    """
    if out is None:
        tracker = source.split(":", 1)[0] if source.startswith(("mlflow:", "wandb:")) else None
        out = Path(f"{tracker or Path(os.path.abspath(source)).name.split('.', 1)[0]}.runs.parquet")
    if out.suffix != ".parquet":
        raise UsageError(f"--out is {out}; a runs table is a .parquet file.")
    from qatplan.storage.target import check_target

    if not dry_run:
        check_target(out, reads=[source], force=force)
    maps, fixed = opt.pairs(mapping, "--map", "FIELD=COLUMN"), opt.pairs(constants, "--const", "FIELD=VALUE")
    from qatplan import api

    asked: dict[str, Any] = {"diverged": diverged, "keep_suspect": keep_suspect, "limit": limit}
    try:
        made = api.import_runs(source, maps, fixed, propose=not maps and not fixed, **asked)
    except UsageError as error:
        if error.evidence is not None:
            _show_proposal(error.evidence, source, out, as_json)
        raise
    evidence = made.imported.evidence
    bad = made.imported.left_out().get("unusable", 0)
    if evidence and 2 * bad > made.imported.rows_read:
        show({"source": source, "out": None, **made.as_dict()}, made.sections, as_json)
        raise DataError(
            f"Most rows of {source} cannot be used as its columns suggest, and nothing was written; give --map."
        )
    written = len(made.runs) > 0 and not dry_run
    if written:
        made.runs.save(out)
    note(*(f"note: {remark}" for remark in made.imported.notes if as_json))

    def sections() -> list[Section]:
        from qatplan.wording.imported import first_rows_section, import_sections

        head = import_sections(made.imported, None if dry_run else out)
        return [first_rows_section(made.imported.table.slice(0, _FIRST)), *head] if dry_run else head

    shown = {"source": source, "out": out if written else None, **made.as_dict()}
    show(shown, sections, as_json)
    if not len(made.runs):
        reasons = [f"row {refused.row}: {refused.reason}" for refused in made.imported.rejected]
        first = f"; the first: {reasons[0]}" if reasons else ""
        raise DataError(f"No row of {source} can be used, and nothing was written{first}.")
    if bad:
        worst = next(refused for refused in made.imported.rejected if refused.kind == "unusable")
        raise NotTrustworthy(
            f"{bad} of {made.imported.rows_read} rows of {source} cannot be used and are not in the table; the first: "
            f"row {worst.row}: {shorten(worst.reason, 80)}."
        )


def _show_proposal(proposal: Any, source: str, out: Path, as_json: bool) -> None:
    """What the columns suggest and leave open, with the command that confirms it."""
    command = proposal.command(source, str(out))

    def sections() -> list[Section]:
        from qatplan.wording.imported import proposal_sections

        return proposal_sections(proposal, command)

    show({"source": source, "out": None, "proposal": proposal, "command": command}, sections, as_json)
