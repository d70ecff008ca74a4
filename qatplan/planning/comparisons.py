"""What a plan is compared with: fixed rules for the split, and full precision."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from qatplan.laws import Inputs
from qatplan.laws.inputs import Floats
from qatplan.laws.predictor import Predictor
from qatplan.planning.candidate import Candidate
from qatplan.planning.evidence.split_ends import measured_end
from qatplan.planning.intervals import drawn_best, thinned
from qatplan.planning.objective import Objective

_FAR: Final = 80.0
"""Natural log of the factor in tokens up to which equal losses are looked for: 5e34 times."""

_BY_LAW: Final = "the law"
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
    loss: float | None = None
    """Nats per token; None where neither law nor runs have a value."""
    loss_cost: float | None = None
    """Loss above the best split's."""
    wasted_tokens: float | None = None
    """Tokens that the best split would have saved at this rule's loss."""
    wasted_share: float | None = None
    """The same as a share of all tokens."""
    at_least: bool = False
    """True when the numbers are lower bounds."""
    source: str
    """Where the numbers come from, or why there are none."""

    @property
    def by_law(self) -> bool:
        """Whether the law itself has a value there."""
        return self.source == _BY_LAW


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
    at the ends of the split, `runs` (rows with the columns of `split_ends.COLUMNS`) say what an end cost, and
    without such runs the law at the end of the fitted fractions bounds it from below.
    """
    rows = list(runs)
    fractions, losses = objective.best(plan.n, plan.tokens, plan.bits)
    best_fraction, best = float(fractions[0]), float(losses[0])

    def split(fraction: float) -> Inputs:
        d_qat = plan.tokens * fraction
        return Inputs.of(n=plan.n, d_fp=plan.tokens - d_qat, d_qat=d_qat, bits=plan.bits)

    def value(fraction: float) -> tuple[float | None, str, bool]:
        """(loss, where it comes from, whether it is a lower bound) of a fixed share."""
        reason = objective.law.outside(split(fraction))[0]
        if reason is None:
            return float(objective.law.predict(split(fraction))[0]), _BY_LAW, False
        end = measured_end(rows, fraction=fraction, bits=plan.bits, n=plan.layout.parameters, d_total=plan.tokens)
        if end is not None:
            return best * math.exp(end.log_ratio), end.words, False
        if fitted_fractions is not None:
            last = fitted_fractions[0] if fraction == 0.0 else fitted_fractions[1]
            # Between the optimum and the end the law only rises, so its last fitted value bounds what lies beyond.
            if 0.0 < last < 1.0 and (last < best_fraction if fraction == 0.0 else last > best_fraction):
                source = f"the law at {last:.3g}, the last fraction fitted; it has no value at {fraction:g}"
                return float(objective.law.predict(split(last))[0]), source, True
        return None, f"outside the law's domain: {reason}; runs at this end measure it (--runs)", False

    def rule(name: str, fraction: float) -> Rule:
        loss, source, at_least = value(fraction)
        made = Rule(name=name, fraction=fraction, loss=loss, at_least=at_least, source=source)
        if loss is None:
            return made
        # Fewest tokens whose best split reaches the loss.
        most = math.log(plan.tokens)
        needed = objective.log_tokens_at_best(plan.n, plan.bits, loss, most - _FAR, most)
        wasted = 0.0 if needed is None else max(plan.tokens - math.exp(needed), 0.0)
        cost = max(loss - best, 0.0)
        return replace(made, loss_cost=cost, wasted_tokens=wasted, wasted_share=wasted / plan.tokens)

    return tuple(rule(name, fraction) for name, fraction in RULES)


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


def full_precision(objective: Objective, plan: Candidate, draws: Predictor | None = None) -> FullPrecision:
    """Tokens needed at the plan's bit width to match full precision, or never; with draws, how sure that is."""
    target = objective.full_precision(plan.n, plan.tokens)
    start = math.log(plan.tokens)
    floor = float(objective.best(plan.n, np.exp(np.array([start + _FAR])), plan.bits)[1][0])
    if not plan.quantized:
        return FullPrecision(
            loss=target, gap=0.0, tokens=plan.tokens, times=1.0, floor=floor, verdict="the plan is in full precision"
        )
    found = objective.log_tokens_at_best(plan.n, plan.bits, target, start - _FAR, start + _FAR)
    ends = f"tends to {floor:.4f}, above full precision's {target:.4f}"
    verdict = f"never: with ever more tokens the loss at {plan.bits:g} bits {ends}"
    tokens = times = None
    if found is not None and found - start > math.log(_MOST):
        verdict = "not within a million times the tokens"
    elif found is not None:
        tokens, times = math.exp(found), math.exp(found - start)
        verdict = f"{times:.3g} times the tokens, split in the best way"
    interval, never = (None, None) if draws is None else _matching(thinned(draws, _DRAWS), objective, plan)
    return FullPrecision(
        loss=target,
        gap=plan.loss - target,
        tokens=tokens,
        times=times,
        floor=floor,
        verdict=verdict,
        tokens_interval=interval,
        never_share=never,
    )


_LEAST, _MOST, _POINTS = 1e-2, 1e6, 65
_DRAWS: Final = 250


def _matching(
    draws: Predictor, objective: Objective, plan: Candidate
) -> tuple[tuple[float, float | None] | None, float]:
    """Interval of the tokens at which the plan's bit width reaches full precision's loss, and the share of "never".

    A grid of tokens, 0.01 to 1e6 times the plan's, is crossed by straight lines in log tokens; an upper end of None is
    never.
    """
    log_tokens = math.log(plan.tokens) + np.linspace(math.log(_LEAST), math.log(_MOST), _POINTS)
    target = draws.drawn(Inputs.of(n=plan.n, d_total=plan.tokens))
    _, loss = drawn_best(draws, objective, n=plan.n, d_total=np.exp(log_tokens), bits=plan.bits)
    crossed = _crossings(log_tokens, loss - target)
    never = float(np.mean(np.isinf(crossed)))
    # A finite stand-in keeps the interpolation between quantiles finite; what reaches it is never.
    low, high = (float(end) for end in draws.interval(np.minimum(crossed, log_tokens[-1] + 1.0)))
    if low > log_tokens[-1]:
        return None, never
    return (float(np.exp(low)), float(np.exp(high)) if high <= log_tokens[-1] else None), never


def _crossings(x: Floats, gap: Floats) -> Floats:
    """(draws,): first x at which each row of `gap` is 0 or less; infinity where it never is."""
    reached = gap <= 0
    i = np.argmax(reached, axis=1)
    rows = np.arange(len(gap))
    before = np.maximum(i - 1, 0)
    first, last = gap[rows, before], gap[rows, i]
    share = np.where(i > 0, first / np.where(first > last, first - last, 1.0), 0.0)
    result: Floats = np.where(reached.any(axis=1), x[before] + share * (x[i] - x[before]), np.inf)
    return result
