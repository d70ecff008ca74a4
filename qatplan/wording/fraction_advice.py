"""The fraction law's advice in words: the split at each bit width, and no loss."""

from __future__ import annotations

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
    distance = None if advice.extrapolation is None else "; ".join(advice.extrapolation.sentences)
    trust = None if advice.status.trustworthy else f"Not to be relied upon: {advice.status.message}: {distance}."
    return [
        section(
            "Recommendation (fraction only)",
            trust,
            f"Of {format_count(split.tokens)} tokens, train {format_count(split.tokens * (1 - split.fraction))} in "
            f"full precision and the last {format_count(split.tokens * split.fraction)} with {split.bits:g}-bit "
            "weights.",
            f"QAT fraction {split.fraction:.3f}{interval}, at {split.tokens_per_parameter_byte:.4g} tokens per "
            f"parameter byte of {format_count(split.params)} parameters; memory "
            f"{format_bytes(split.memory_bytes)} at inference; training {split.cost.flops:.3g} FLOPs, "
            f"{three(split.cost.gpu_hours)} {advice.problem.training.hardware.name} hours{money}.",
            fit_in,
            "Losses, and the choice of bits, need a sweep: `qatplan sweep`, then `qatplan fit --law qat-loss`.",
        ),
        section("By bit width", table if advice.alternatives else None, bullets(*excluded)),
        section("What it rests on", *([rests] if details else [sentence(advice.assumptions[0]), More("The rest")])),
    ]
