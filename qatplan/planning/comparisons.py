"""What a plan is held against: fixed rules for the split, full precision, and a given full-precision model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from qatplan.laws.inputs import Floats
from qatplan.planning.candidate import Candidate
from qatplan.planning.evidence.split_ends import measured_end
from qatplan.planning.given_model import WORTHWHILE, balanced_qat_tokens, worthwhile_qat_tokens
from qatplan.planning.numeric import first_below
from qatplan.planning.objective import Objective

_FAR: Final = 80.0
"""Natural log of the factor in tokens up to which equal losses are looked for: 5e34 times."""

RULES: Final[tuple[tuple[str, float], ...]] = (
    ("10 % rule", 0.1),
    ("no QAT, rounded after training", 0.0),
    ("QAT from scratch", 1.0),
)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A fixed share of QAT instead of the best one, at the same parameters, tokens and bit width."""

    name: str
    fraction: float
    loss: float | None
    """Nats per token; None where neither law nor runs have a value."""
    loss_cost: float | None
    """Loss above the best split's."""
    wasted_tokens: float | None
    """Tokens that the best split would have saved at this rule's loss."""
    wasted_share: float | None
    """The same as a share of all tokens."""
    at_least: bool
    """True when the numbers are lower bounds."""
    source: str
    """Where the numbers come from, or why there are none."""


def rules(
    objective: Objective,
    plan: Candidate,
    *,
    runs: Iterable[Mapping[str, Any]] = (),
    fitted_fractions: tuple[float, float] | None = None,
) -> tuple[Rule, ...]:
    """The cost of the usual rules at this plan.

    Wasted tokens are D_total - D', with D' the smallest number of tokens whose best split reaches the rule's loss. The
    paper's own definition (arXiv 2509.22935) was not available; this is our reading of it. Where the law has no value,
    at the ends of the split, `runs` (rows with the columns of `measured_rules.COLUMNS`) say what an end cost, and
    without such runs the law at the end of the fitted fractions bounds it from below.
    """
    rows = list(runs)
    return tuple(_rule(objective, plan, name, fraction, rows, fitted_fractions) for name, fraction in RULES)


def _rule(
    objective: Objective,
    plan: Candidate,
    name: str,
    fraction: float,
    runs: list[Mapping[str, Any]],
    fitted_fractions: tuple[float, float] | None,
) -> Rule:
    best_fraction, losses = objective.best(plan.n, plan.tokens, plan.bits)
    best = float(losses[0])

    def rule(loss: float, *, source: str, at_least: bool = False) -> Rule:
        wasted = max(plan.tokens - _tokens_at_best_split(objective, plan, loss), 0.0)
        return Rule(
            name=name,
            fraction=fraction,
            loss=loss,
            loss_cost=max(loss - best, 0.0),
            wasted_tokens=wasted,
            wasted_share=wasted / plan.tokens,
            at_least=at_least,
            source=source,
        )

    def at(share: float) -> float:
        d_qat = plan.tokens * share
        return float(objective.loss_of_phases(plan.n, plan.tokens - d_qat, d_qat, plan.bits)[0])

    d_qat = plan.tokens * fraction
    reason = objective.outside(plan.n, plan.tokens - d_qat, d_qat, plan.bits)
    if reason is None:
        return rule(at(fraction), source="the law")
    held = measured_end(
        runs, fraction=fraction, bits=plan.bits, n=plan.layout.parameters, d_total=plan.tokens
    )  # fmt: skip
    if held is not None:
        return rule(best * math.exp(held.log_ratio), source=held.words)
    if fitted_fractions is not None:
        last = fitted_fractions[0] if fraction == 0.0 else fitted_fractions[1]
        # Between the optimum and the end the law only rises, so its last fitted value bounds what lies beyond.
        if 0.0 < last < 1.0 and (last < best_fraction[0] if fraction == 0.0 else last > best_fraction[0]):
            source = f"the law at {last:.3g}, the last fraction fitted; it has no value at {fraction:g}"
            return rule(at(last), source=source, at_least=True)
    return Rule(
        name=name, fraction=fraction, loss=None, loss_cost=None, wasted_tokens=None, wasted_share=None, at_least=False,
        source=f"outside the law's domain: {reason}; runs at this end measure it (--runs)",
    )  # fmt: skip


def _tokens_at_best_split(objective: Objective, plan: Candidate, loss: float) -> float:
    """Fewest tokens whose best split reaches the loss; at most the plan's own."""

    def best(log_tokens: Floats) -> Floats:
        return objective.best(plan.n, np.exp(log_tokens), plan.bits)[1]

    most = math.log(plan.tokens)
    found = first_below(best, loss, most - _FAR, most)
    return plan.tokens if found is None else math.exp(found)


@dataclass(frozen=True, kw_only=True)
class FullPrecision:
    """What quantized training needs to match full-precision training of the same model on the plan's tokens."""

    loss: float
    """Of the full-precision model at the plan's parameters and tokens."""
    gap: float
    """Plan's loss above it."""
    tokens: float | None
    """Tokens, split in the best way, at which the quantized model reaches that loss; None for never."""
    times: float | None
    """The same over the plan's tokens."""
    floor: float
    """Loss that the quantized model tends to with ever more tokens."""
    verdict: str
    tokens_interval: tuple[float, float | None] | None = None
    """Of `tokens` over the draws; an upper end of None is never, and no interval is none at all or never throughout."""
    never_share: float | None = None
    """Share of the draws in which a million times the plan's tokens do not suffice; None without draws."""


def full_precision(objective: Objective, plan: Candidate) -> FullPrecision:
    """Tokens needed at the plan's bit width to match full precision, or never."""
    target = float(objective.loss(plan.n, plan.tokens, None, 0.0)[0])

    def best(log_tokens: Floats) -> Floats:
        return objective.best(plan.n, np.exp(log_tokens), plan.bits)[1]

    start = math.log(plan.tokens)
    floor = float(best(np.array([start + _FAR]))[0])
    found = first_below(best, target, start - _FAR, start + _FAR)
    if found is None:
        tokens, times = None, None
        verdict = (
            f"never: with ever more tokens the loss at {plan.bits:g} bits tends to {floor:.4f}, above full precision's "
            f"{target:.4f}"
        )
    else:
        tokens, times = math.exp(found), math.exp(found - start)
        verdict = f"{times:.3g} times the tokens, split in the best way"
    return FullPrecision(loss=target, gap=plan.loss - target, tokens=tokens, times=times, floor=floor, verdict=verdict)


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """QAT of a given full-precision model."""

    fp_tokens: float
    qat_tokens: float
    worthwhile_qat_tokens: float | None
    """Beyond these, doubling the QAT tokens lowers the loss by less than 0.1 %; None when every doubling pays."""
    balanced_qat_tokens: float | None
    """QAT tokens for which the given full-precision tokens are just the best share of the total."""
    full_precision_loss: float
    """Of the given model, as the law predicts it."""
    curve: tuple[tuple[float, float], ...]
    """(QAT tokens, predicted loss) around the plan."""
    rule: str = (
        f"worthwhile: until doubling the QAT tokens gains less than {100 * WORTHWHILE:g} % of the loss; balanced: "
        "where the given full-precision tokens are the best share of the total"
    )


def continuation(objective: Objective, plan: Candidate) -> Continuation:
    """How many QAT tokens pay for the given model."""
    worthwhile = worthwhile_qat_tokens(objective, plan.n, plan.d_fp, plan.bits)
    balanced = balanced_qat_tokens(objective, plan.n, plan.d_fp, plan.bits)
    grid = plan.d_qat * 2.0 ** np.arange(-5.0, 6.0)
    losses = objective.loss_of_phases(plan.n, plan.d_fp, grid, plan.bits)
    return Continuation(
        fp_tokens=plan.d_fp,
        qat_tokens=plan.d_qat,
        worthwhile_qat_tokens=worthwhile if math.isfinite(worthwhile) else None,
        balanced_qat_tokens=balanced if math.isfinite(balanced) else None,
        full_precision_loss=float(objective.loss(plan.n, plan.d_fp, None, 0.0)[0]),
        curve=tuple((float(a), float(b)) for a, b in zip(grid, losses, strict=True)),
    )
