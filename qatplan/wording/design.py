"""A design of runs as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qatplan.units import format_count

if TYPE_CHECKING:
    from qatplan.planning.next_runs.design import Design


def design_memo(said: Design) -> str:
    """The runs, what each adds, and what becomes of the target's intervals."""
    head = (
        f"Make {len(said.runs)} runs for {said.flops:.3g} of {said.budget:.3g} FLOPs; they leave "
        f"{100 * said.variance_left:.3g} % of the target's variance."
    )
    columns = ("params", "tokens", "bits", "QAT fraction", "switch at", "adds FLOPs", "variance left")
    rows = [
        (
            format_count(run.params),
            format_count(run.tokens),
            "full" if run.bits is None else f"{run.bits:g}",
            "-" if run.bits is None else f"{run.fraction:.3f}",
            "-" if run.bits is None else format_count(run.fp_tokens),
            f"{run.extra_flops:.3g}",
            f"{100 * run.variance_left:.3g} %",
        )
        for run in said.runs
    ]
    widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
    table = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (columns, *rows)]
    bought = [
        f"{quantity.name}: {100 * said.level:g} % interval {quantity.interval[0]:.4g} to {quantity.interval[1]:.4g}, "
        f"width {quantity.width:.3g}; expected after the runs {quantity.expected_width:.3g}"
        for quantity in said.quantities
    ]
    parts = (
        ("Next runs", [head, *table]),
        ("What they buy", bought),
        ("What it rests on", [f"{line}." for line in said.assumptions]),
    )
    return "\n\n".join("\n".join([title, *(f"  {line}" for line in lines)]) for title, lines in parts)
