"""The plan and its alternatives: what to train, what it beat, what fixed rules would cost, what it rests on."""

from __future__ import annotations

import math

from qatplan.planning.fraction_only import FractionAdvice
from qatplan.planning.recommend import Option, Recommendation
from qatplan.report.drawings import Drawings
from qatplan.report.markup import (
    Markup,
    bullets,
    element,
    join,
    paragraph,
    section,
    table,
    warning,
)
from qatplan.report.material import Material
from qatplan.report.question import Plan, budgets
from qatplan.units import format_bytes, format_count
from qatplan.wording import plan as wording
from qatplan.wording.fraction_advice import fraction_headline
from qatplan.wording.numbers import estimate, percent
from qatplan.wording.sections import Bullets, Section

_TITLE = "The plan and its alternatives"


def plan_section(material: Material, plan: Plan, drawings: Drawings) -> Markup:
    """The section for whatever the law can advise."""
    if plan.advice is None:
        said = paragraph(f"This fit gives no plan: {plan.reason}")
        figures = drawings.figures(("frontier",)) if _knows_bits(material) else []
        return section("plan", _TITLE, said, *figures)
    asked = [paragraph(f"Asked: {'; '.join(budgets(plan.asked))}.", plan.why or None)]
    if not plan.trusted:
        asked.append(warning("this plan is not to be relied upon", paragraph(f"It is {plan.advice.status.message}.")))
    if isinstance(plan.advice, FractionAdvice):
        return section("plan", _TITLE, *asked, *_fraction_only(plan.advice))
    return section("plan", _TITLE, *asked, *_recommendation(plan.advice, drawings))


def _knows_bits(material: Material) -> bool:
    return material.fitted.law.quantity == "loss" and "bits" in material.fitted.ranges


def _recommendation(advice: Recommendation, drawings: Drawings) -> list[Markup]:
    kinds = ("contours", "frontier") if advice.choice.plan.d_qat and advice.rules else ("frontier",)
    parts = [
        element("h3", "Recommendation"),
        paragraph(*_sentences(wording.headline(advice))),
        paragraph(*_sentences(wording.why(advice))),
        _alternatives(advice),
        bullets([f"{bits} bits: {reason}" for bits, reason in advice.excluded.items()]),
        _unbounded_memory(advice),
        _rules(advice),
    ]
    # Flags of the fit have a place of their own on the page.
    prose = (wording.full_precision(advice), wording.schedule(advice), wording.changes(advice, fit_flags=False))
    for told in prose:
        if told.blocks:
            parts += [element("h3", told.title), bullets(_sentences(told))]
    parts += drawings.figures(kinds)
    return [*parts, element("h3", "What it rests on"), bullets([_sentence(a) for a in advice.assumptions])]


def _unbounded_memory(advice: Recommendation) -> Markup:
    if advice.problem.budgets.memory is not None or not advice.alternatives:
        return Markup("")
    return paragraph(
        "No memory budget was given, so all widths are compared at the same number of parameters, where more bits can "
        "only help; which width pays in a given memory is a question for the figure of the frontier.",
        class_="note",
    )


def _sentences(part: Section) -> list[str]:
    """The paragraphs and list items of a section."""
    return [text for block in part.blocks for text in (block.items if isinstance(block, Bullets) else [str(block)])]


def _alternatives(advice: Recommendation) -> Markup:
    level = f"{100 * advice.problem.level:g} % interval"
    headers = ("bits", "parameters", "tokens", "QAT fraction", "loss, nats/token", level, "best in", "FLOPs", "memory",
               "verdict")  # fmt: skip
    rows = [_option(option, i == 0) for i, option in enumerate(advice.options)]
    # Columns in which all alternatives are alike say nothing, and the recommendation above has their numbers.
    same = {i for i in (1, 2, 7) if len({row[i] for row in rows}) == 1}
    kept = [i for i in range(len(headers)) if i not in same]
    shown = [[row[i] for i in kept] for row in rows]
    return table("What it was chosen from", [headers[i] for i in kept], shown, words=(len(kept) - 1,), strong=0)


def _option(option: Option, chosen: bool) -> tuple[str | None, ...]:
    plan, interval = option.plan, option.loss_interval
    loss, low_to_high = estimate(plan.loss, interval)
    best = option.probability_best
    verdict = "chosen" if chosen else "cannot be told from the choice" if option.within_noise else "worse"
    return (
        f"{plan.bits:g}", format_count(plan.layout.parameters), format_count(plan.tokens),
        _with_interval(plan.fraction, option.fraction_interval), loss, low_to_high or None,
        None if best is None else f"{100 * best:.0f} %", f"{plan.flops:.3g}", format_bytes(plan.memory_bytes), verdict,
    )  # fmt: skip


def _with_interval(fraction: float, interval: tuple[float, float] | None) -> str:
    return f"{fraction:.3f}" + ("" if interval is None else f" ({interval[0]:.2f} to {interval[1]:.2f})")


def _rules(advice: Recommendation) -> Markup:
    if not advice.rules:
        return Markup("")
    rows: list[tuple[str | None, ...]] = []
    sources = [f"{rule.name}: {rule.source}." for rule in advice.rules if not rule.by_law]
    for rule in advice.rules:
        if rule.loss is None:
            rows.append((rule.name, f"{rule.fraction:g}", None, None, None, None))
            continue
        least = "at least " if rule.at_least else ""
        share = f"{percent(rule.wasted_share or 0.0)} of the tokens"
        rows.append(
            (
                rule.name, f"{rule.fraction:g}", f"{rule.loss:.4f}", f"+{rule.loss_cost or 0.0:.4f}",
                format_count(rule.wasted_tokens or 0.0),
                f"{least}{share}",
            )
        )  # fmt: skip
    headers = ("rule", "fraction", "loss, nats/token", "above the plan", "wasted tokens", "share")
    note = paragraph(
        "Wasted tokens are those that the best split would not have needed for the same loss.", class_="note"
    )
    held = table("Fixed rules for the split, held against the plan", headers, rows, words=(0, 5))
    return join([held, note, bullets(sources)])


def _fraction_only(advice: FractionAdvice) -> list[Markup]:
    rows = [
        (
            f"{s.bits:g}", format_count(s.params), format_count(s.tokens), f"{s.tokens_per_parameter_byte:.4g}",
            _with_interval(s.fraction, s.fraction_interval), format_bytes(s.memory_bytes),
        )
        for s in advice.options
    ]  # fmt: skip
    headers = ("bits", "parameters", "tokens", "tokens per parameter byte", "QAT fraction", "memory")
    return [
        element("h3", "Recommendation: the split alone"),
        paragraph(*_sentences(fraction_headline(advice))),
        table("The split at each bit width", headers, rows, words=()),
        bullets([f"{bits} bits: {reason}" for bits, reason in advice.excluded.items()]),
        element("h3", "What it rests on"),
        bullets([_sentence(a) for a in advice.assumptions]),
    ]


def headline(plan: Plan) -> list[str]:
    """The plan in two or three sentences, for the top of the page."""
    advice = plan.advice
    if advice is None:
        return []
    said = _sentences(wording.headline(advice) if isinstance(advice, Recommendation) else fraction_headline(advice))
    if isinstance(advice, Recommendation):
        said = [line for line in said if not line.startswith("Memory ")]
        close = [f"{o.plan.bits:g}" for o in advice.alternatives if o.within_noise]
        if close:
            said.append(f"{advice.choice.plan.bits:g} and {', '.join(close)} bits cannot be told apart there.")
        rule = next((r for r in advice.rules if r.wasted_share is not None and r.fraction == 0.1), None)
        if rule is not None and rule.wasted_share is not None and math.isfinite(rule.wasted_share):
            waste = percent(rule.wasted_share) if rule.wasted_share >= 0.005 else "next to none"
            said.append(f"A fixed 10 % of QAT would waste {waste} of those tokens.")
    return said


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
