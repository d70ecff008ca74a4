"""A design of runs in words."""

from __future__ import annotations

from qatplan.planning.next_runs.design import Design
from qatplan.units import format_count
from qatplan.wording.sections import More, Section, Table, bullets, percent, section, sentence


def design_sections(design: Design, *, details: bool = False) -> list[Section]:
    """The runs, what each adds, and what becomes of the target's intervals; with details, what that rests on."""
    head = (
        f"Make {len(design.runs)} runs for {design.flops:.3g} of {design.budget:.3g} FLOPs. They leave "
        f"{percent(design.variance_left)} of the target's variance."
    )
    runs = Table(
        headers=("params", "tokens", "bits", "fraction", "switch at", "adds FLOPs", "variance left"),
        rows=tuple(
            (
                format_count(run.params),
                format_count(run.tokens),
                "full" if run.bits is None else f"{run.bits:g}",
                None if run.bits is None else f"{run.fraction:.3f}",
                None if run.bits is None else format_count(run.fp_tokens),
                f"{run.extra_flops:.3g}",
                percent(run.variance_left),
            )
            for run in design.runs
        ),
    )
    bought = Table(
        headers=("", f"{percent(design.level, 'g')} interval", "width", "after the runs"),
        rows=tuple(
            (
                quantity.name,
                f"{quantity.interval[0]:.4g} to {quantity.interval[1]:.4g}",
                f"{quantity.width:.3g}",
                f"{quantity.expected_width:.3g}",
            )
            for quantity in design.quantities
        ),
        words=(0,),
    )
    rests = bullets(*map(sentence, design.assumptions))
    return [
        section("Next runs", head, runs),
        section("What they buy", bought),
        section("What it rests on", *([rests] if details else [sentence(design.assumptions[0]), More("The rest")])),
    ]
