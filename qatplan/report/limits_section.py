"""What is not determined: open parameters, flags of fit and plan, the fitted range, and what a law cannot know."""

from __future__ import annotations

import math

from qatplan.planning.caveats import Concern
from qatplan.planning.fraction_only import FractionAdvice
from qatplan.planning.recommend import Recommendation
from qatplan.report.drawings import Drawings
from qatplan.report.markup import (
    Markup,
    bullets,
    element,
    paragraph,
    section,
)
from qatplan.report.material import Material
from qatplan.report.question import Plan
from qatplan.report.runs_section import ranges_table


def limits_section(material: Material, plan: Plan, drawings: Drawings) -> Markup:
    """The section; it also says so where nothing is known to be open."""
    fitted = material.fitted
    parts: list[Markup] = []
    if fitted.identifiability:
        parts += [element("h3", "What the runs leave open"), bullets([_ended(s) for s in fitted.identifiability])]
    if fitted.flags:
        parts += [element("h3", "Flags of the fit"), bullets([_ended(s) for s in fitted.flags])]
    if flags := plan_flags(plan):
        parts += [element("h3", "Flags of the plan"), bullets([_ended(s) for s in flags])]
    if not parts:
        parts.append(paragraph("The fit and the plan raised no flag."))
    wide = wide_parameters(material)
    if wide:
        parts.append(paragraph(f"Known to no better than a factor of ten: {', '.join(wide)}."))
    if drawings.refused:
        drawn = [f"{kind}: {reason}" for kind, reason in drawings.refused.items()]
        parts += [element("h3", "Figures that could not be drawn"), bullets(drawn)]
    parts += [
        element("h3", "Where the law has been seen"),
        ranges_table(material) if material.table is not None else Markup(""),
        bullets(_standing_limits(material)),
    ]
    return section("limits", "What is not determined", *parts)


def plan_flags(plan: Plan) -> list[str]:
    """The plan's own flags, without those it repeats from the fit and from the headline."""
    if not isinstance(plan.advice, Recommendation | FractionAdvice):
        return []
    return [str(f) for f in plan.advice.flags if f.concern not in (Concern.FIT, Concern.LOSSES_NEED_A_SWEEP)]


def wide_parameters(material: Material) -> list[str]:
    """Names of the positive parameters whose interval spans more than a factor of ten."""
    found = []
    for name, (low, high) in material.fitted.intervals.items():
        if high > 0 and math.isfinite(high) and (low <= 0 or high / low > 10) and material.fitted.params[name] > 0:
            coordinate = next((p.coordinate for p in material.fitted.law.parameters() if p.name == name), "linear")
            found += [name] if coordinate == "log" else []
    return found


def _standing_limits(material: Material) -> list[str]:
    said = [
        "Outside these ranges a prediction is an extrapolation: its interval says how sure the parameters are, not "
        "whether the law still holds.",
        "The law is about runs made like these: the same kind of model, text, quantizer, schedule and tuning.",
    ]
    if material.fitted.seed_noise is None:
        said.append("Without runs repeated with other seeds, a systematic error of the law cannot be told from noise.")
    return said


def _ended(sentence: str) -> str:
    return f"{sentence[0].upper()}{sentence[1:]}{'' if sentence.endswith('.') else '.'}"
