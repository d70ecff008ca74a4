"""A design of runs in words."""

from __future__ import annotations

from qatplan.planning.next_runs.design import Design
from qatplan.units import format_count
from qatplan.wording.sections import More, Section, Table, bullets, percent, section, sentence

_LITTLE = 0.5
"""Share of the target's variance left, above which runs are not worth their cost."""


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
    most = None
    if design.variance_left > _LITTLE:
        most = "This budget cannot help: most of what is unknown about the target stays unknown, however it is spent."
    trust = None if design.status.trustworthy else f"Not to be relied upon: {design.status.message}."
    far = "; ".join(design.extrapolation.sentences)
    rests = bullets(*map(sentence, design.assumptions))
    return [
        section(
            "Next runs",
            trust,
            f"{far[:1].upper()}{far[1:]}." if far else None,
            head,
            most,
            runs,
            warning=trust is not None,
        ),
        section("What they buy", bought),
        section("What it rests on", *([rests] if details else [sentence(design.assumptions[0]), More("The rest")])),
    ]
