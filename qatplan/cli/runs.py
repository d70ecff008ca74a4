"""`qatplan runs`: validate and summarise tables of runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qatplan.cli.options import (
    Force,
    Json,
    Rows,
    RunPaths,
)
from qatplan.cli.output import emit, note, plain, table
from qatplan.errors import DataError, UsageError
from qatplan.units import format_count

if TYPE_CHECKING:
    import pyarrow as pa

    from qatplan.runs import FileProblem
    from qatplan.runs.summary import Count, Range, Summary

_LISTED = 20


def runs(
    paths: RunPaths,
    rows: Rows = None,
    fields: Annotated[bool, typer.Option("--fields", help="Describe every column below the summary.")] = False,
    compact: Annotated[
        Path | None, typer.Option("--compact", metavar="FILE.parquet", help="Also write the rows as one file.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Validate and summarise tables of runs, or merge them into one file.

    Every row is checked; rows that cannot be used are listed with their file and reason, and the command then ends
    with 3.

    Example: qatplan runs sweep/ --rows "bits == 4"
    """
    from qatplan import runs as door
    from qatplan.runs.summary import summarise

    found, problems, notes = door.inspect(paths)
    for remark in notes:
        note(f"note: {remark}")
    if rows is not None:
        found = door.select(found, rows)
    if compact is not None:
        _compact(found, problems, compact, force)
    summary = summarise(found)
    shown: dict[str, Any] = {**plain(summary), "digest": door.digest(found)}
    shown["problems"] = [
        {"file": str(p.file), "row": p.row, "field": p.field, "sentence": p.sentence} for p in problems
    ]
    text = _text(summary, problems)
    if fields:
        described = [(f.name, str(f.type), f.unit, f.meaning) for f in door.FIELDS]
        shown["fields"] = [dict(zip(("name", "type", "unit", "meaning"), row, strict=True)) for row in described]
        text += "\n\n" + table(["field", "type", "unit", "meaning"], described)
    emit(shown, text, as_json)
    if problems:
        bad = len({(p.file, p.row) for p in problems})
        raise DataError(f"{bad} {'row' if bad == 1 else 'rows'} cannot be used; the first: {problems[0]}")


def _compact(found: pa.Table, problems: list[FileProblem], target: Path, force: bool) -> None:
    """Write the rows, ordered by run id so that the same runs give the same file; nothing is overwritten unasked."""
    from qatplan import runs as door

    if problems:
        raise DataError(f"{target} was not written, for a row cannot be used: {problems[0]}")
    if target.exists() and not force:
        raise UsageError(f"{target} exists; --force overwrites it.")
    door.write(found.sort_by("run_id"), target)


def _text(summary: Summary, problems: list[FileProblem]) -> str:
    lines = [f"{summary.rows} runs: {_listing(summary.status)}; {format_count(summary.tokens)} tokens"]
    if summary.trunks:
        lines[0] += f"; {summary.trunks} trunks"
    lines += [
        f"bits       {_listing(summary.bits, missing='full precision')}",
        f"fractions  {_span(summary.fractions)} ({summary.distinct_fractions} distinct, quantized runs)",
        f"schedules  {_listing(summary.schedules)}",
        f"quantizers {_listing(summary.quantizers)}",
        f"seeds      {_listing(summary.seeds)}",
        f"loss       {_span(summary.loss, '.4f')} nats per token",
        "",
    ]
    sizes = [
        (
            format_count(size.n_total),
            "" if size.n_nonembedding is None else format_count(size.n_nonembedding),
            size.runs,
            _counts(size.d_total),
            _span(size.tokens_per_parameter),
            ", ".join("FP" if b is None else f"{b:g}" for b in size.bits),
            _span(size.loss, ".4f"),
        )
        for size in summary.sizes[:_LISTED]
    ]
    lines.append(table(["N", "N non-emb.", "runs", "tokens", "tokens/N", "bits", "loss"], sizes))
    if len(summary.sizes) > _LISTED:
        lines.append(f"... and {len(summary.sizes) - _LISTED} more sizes (all of them with --json)")
    if problems:
        lines += ["", "rows that cannot be used:", *(f"  {problem}" for problem in problems[:_LISTED])]
        if len(problems) > _LISTED:
            lines.append(f"  ... and {len(problems) - _LISTED} more (all of them with --json)")
    return "\n".join(lines)


def _listing(counts: tuple[Count, ...], missing: str = "unknown") -> str:
    names = [
        (missing if c.value is None else f"{c.value:g}" if isinstance(c.value, float) else str(c.value), c.runs)
        for c in counts
    ]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return (", ".join(f"{name} ({number})" for name, number in names[:_LISTED]) or "unknown") + more


def _span(span: Range, style: str = ".3g") -> str:
    if span is None:
        return "unknown"
    low, high = (f"{float(end):{style}}" for end in span)
    return low if low == high else f"{low} to {high}"


def _counts(span: Range) -> str:
    if span is None:
        return "unknown"
    low, high = (format_count(end) for end in span)
    return low if low == high else f"{low} to {high}"
