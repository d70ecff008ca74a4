"""The fraction law's advice in words: the split at each bit width, and no loss."""

from __future__ import annotations

from qatplan.laws.qat_fraction import PUBLISHED_A
from qatplan.planning.caveats import Concern
from qatplan.planning.fraction_only import FractionAdvice
from qatplan.units import format_bytes, format_count
from qatplan.wording.numbers import three
from qatplan.wording.sections import More, Section, Table, bullets, section, sentence


def fraction_sections(advice: FractionAdvice, *, details: bool = False) -> list[Section]:
    """The split in titled sections; without details what it rests on is left out."""
    rests = bullets(*map(sentence, advice.assumptions))
    excluded = (f"{bits} bits: {reason}" for bits, reason in advice.excluded.items())
    split, low_high = advice.choice, advice.choice.fraction_interval
    interval = "" if low_high is None else f" (interval {low_high[0]:.3f} to {low_high[1]:.3f})"
    rows = tuple(
        (
            f"{s.bits:g}", format_count(s.params), format_count(s.tokens), f"{s.tokens_per_parameter_byte:.4g}",
            f"{s.fraction:.3f}", format_bytes(s.memory_bytes),
        )
        for s in advice.options
    )  # fmt: skip
    money = "" if split.cost.money is None else f", {split.cost.money:,.2f} in money"
    fit_in = None
    if (memory := advice.problem.budgets.memory) is not None:
        widths = ", ".join(f"{s.bits:g}" for s in sorted(advice.options, key=lambda s: s.bits))
        fit_in = f"Widths that fit {format_bytes(memory)}: {widths} bits."
    table = Table(headers=("bits", "params", "tokens", "tokens/byte", "fraction", "memory"), rows=rows)
    rest = [
        section("By bit width", table if advice.alternatives else None, bullets(*excluded)),
        section("What it rests on", *([rests] if details else [sentence(advice.assumptions[0]), More("The rest")])),
    ]
    if advice.problem.continues and not details:
        widths = "Other widths, and what" if advice.alternatives or advice.excluded else "What"
        rest = [section("", More(f"{widths} it rests on"))]
    distance = None if advice.extrapolation is None else "; ".join(advice.extrapolation.sentences)
    outside = "; ".join(flag.sentence for flag in advice.flags if flag.concern is Concern.EXTRAPOLATION)
    trust = None if advice.status.trustworthy else f"Not to be relied upon: {advice.status.message}: {distance}."
    return [
        section(
            "Recommendation (fraction only)",
            trust,
            f"Of {format_count(split.tokens)} tokens, train {format_count(split.tokens * (1 - split.fraction))} in "
            f"full precision and the last {format_count(split.tokens * split.fraction)} with {split.bits:g}-bit "
            "weights."
            if split.balanced_qat_tokens is None
            else _continued(advice, split.balanced_qat_tokens),
            f"QAT fraction {split.fraction:.3f}{interval}, at {split.tokens_per_parameter_byte:.4g} tokens per "
            f"parameter byte of {format_count(split.params)} parameters; memory "
            f"{format_bytes(split.memory_bytes)} at inference; training {split.cost.flops:.3g} FLOPs, "
            f"{three(split.cost.gpu_hours)} {advice.problem.training.hardware.name} hours{money}.",
            fit_in,
            f"Outside what was measured: {outside}." if outside and trust is None else None,
            "Losses, and the choice of bits, need a sweep: `qatplan sweep`, then `qatplan fit --law qat-loss`.",
        ),
        _recipes(advice),
        *rest,
    ]


def _continued(advice: FractionAdvice, balanced: float) -> str:
    """How many QAT tokens for a given model, and whether the budget pays for them."""
    split, seen = advice.choice, advice.problem.budgets.fp_tokens or 0.0
    paid = split.tokens * split.fraction
    short = ""
    if paid < balanced * (1 - 1e-9):
        short = f", all that the budget pays; the law's best would be {format_count(balanced)}"
    return (
        f"After the {format_count(seen)} tokens that the model has seen, train {format_count(paid)} with "
        f"{split.bits:g}-bit weights{short}."
    )


def _recipes(advice: FractionAdvice) -> Section:
    """What teams published, beside the law's answer; empty without a given model."""
    split = advice.choice
    if not advice.recipes:
        return section("Which QAT is meant?")
    law = "arXiv 2509.22935, 2025-09" if advice.a == PUBLISHED_A else "your fit"
    wanted = split.balanced_qat_tokens or 0.0
    per_byte = wanted / (split.params_in_law * split.bits / 8.0)
    rows = [("this law", f"{split.bits:g}", f"{per_byte:.4g}", format_count(wanted), law)]
    for recipe in advice.recipes:
        rows.append(
            (
                recipe.name,
                f"{recipe.bits:g}",
                f"{recipe.tokens_per_byte:g}",
                format_count(recipe.qat_tokens(split.params)),
                f"{recipe.source}, {recipe.dated}",
            )
        )
    headers = ("recipe", "bits", "QAT tokens/byte", "QAT tokens", "source")
    return section(
        "Which QAT is meant?",
        "This law is about QAT with the pretraining loss; none here covers distillation after post-training (arXiv "
        "2601.20088).",
        Table(headers=headers, rows=tuple(rows), words=(0, 4)),
    )
