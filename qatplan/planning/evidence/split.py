"""Which law answers for the QAT fraction, what the other says, and what the nearest measured curves show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from qatplan.errors import UsageError
from qatplan.laws import FittedLaw, Inputs, optimal_fraction
from qatplan.laws.fit_parts import CurveRecord, FractionDiagnostics, SplitEvidence
from qatplan.laws.inputs import Floats
from qatplan.laws.odds import log_odds, share
from qatplan.laws.quantiles import central
from qatplan.laws.split_interval import split_interval
from qatplan.planning.numeric import shape_preserving

Interval = tuple[float, float]

_NEIGHBOURS = 5
"""Curves whose flat ranges a plan's is made of."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one law says of the best fraction at a plan."""

    law: str
    fraction: float
    interval: Interval | None
    mean_regret: float
    """What its splits cost on the measured curves, nats per token above each curve's lowest loss."""
    held_out: bool
    """Whether those curves were kept from its fit."""


@dataclass(frozen=True, kw_only=True)
class NearestCurve:
    """The measured curve closest to a plan: first in bits, then in doublings of size and tokens."""

    n: float
    d_total: float
    bits: float
    fraction: float
    """Where its loss is lowest, as measured."""
    at_end: bool
    """Whether that is the first or last fraction measured, so that the optimum may lie beyond."""
    flat: Interval
    """The fractions about it that cost less than the tolerance."""


@dataclass(frozen=True, kw_only=True)
class SplitAdvice:
    """How far the fraction of a plan is known."""

    answer: Answer
    """Of the law whose splits cost less on the measured curves."""
    other: Answer | None
    """Of the other law; None where it has no value."""
    curves: int
    tolerance: float
    """Nats per token."""
    flat: Interval
    """Fractions that cost less than the tolerance, by the shape of the nearest measured curves about their minima."""
    measured: Interval
    """The fractions that were measured; an end of `flat` that lies there may lie further."""
    nearest: NearestCurve
    disputed: bool
    """Whether the intervals of both laws have nothing in common."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def evidence_of(split: FittedLaw) -> tuple[SplitEvidence, list[CurveRecord]]:
    """(errors on held-out curves, measured curves) of a fit of a fraction law. Raises UsageError for another fit."""
    found = split.diagnostics
    if not isinstance(found, FractionDiagnostics) or found.split is None:
        raise UsageError(
            f"the split's fit holds law {split.law.name} and no measured curves; fit fraction-surface to runs with "
            "curves of loss against the QAT fraction."
        )
    curves = [c for c in found.curves if c.fractions and c.losses]
    if not curves:
        raise UsageError("the split's fit holds no measured curve; fit fraction-surface again.")
    return found.split, curves


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What the splits of two laws cost on the measured curves, nats per token above each curve's lowest loss.

    The fraction law's curves were kept from its fit, by cell. The loss law may have seen them, which favours it.
    """

    fraction_law: float
    loss_law: float
    """NaN for a law without a value at some curve."""

    @property
    def fraction_law_answers(self) -> bool:
        """Whether the fraction law's splits cost less."""
        return not self.loss_law <= self.fraction_law


def costs(split: FittedLaw, loss: FittedLaw) -> Costs:
    """Of a fit of a fraction law with its curves, and of a fit of a loss law.

    Raises UsageError for a fit without curves, and for fits that count parameters differently.
    """
    evidence, curves = evidence_of(split)
    if split.n_convention != loss.n_convention:
        raise UsageError(
            f"the split's fit counts {split.n_convention} parameters and the loss law's {loss.n_convention}; fit both "
            "with the same --n."
        )
    held_out = next((s.mean_regret for s in evidence.scores if s.way == "cell"), math.inf)
    n, d_total, bits = ([getattr(c, name) for c in curves] for name in ("n", "d_total", "bits"))
    if any(loss.law.outside(Inputs.of(n=n, d_total=d_total, bits=bits, fraction=0.5))):
        return Costs(fraction_law=held_out, loss_law=math.nan)
    said = optimal_fraction(loss.law, n=n, d_total=d_total, bits=bits).fraction
    return Costs(
        fraction_law=held_out, loss_law=float(np.mean([_excess(c, f) for c, f in zip(curves, said, strict=True)]))
    )


def advise(
    split: FittedLaw,
    loss: FittedLaw,
    point: Inputs,
    *,
    judged: Costs,
    level: float,
    tolerance: float,
    draws: Floats | None,
) -> SplitAdvice:
    """The answers of both laws at one point, the one that `judged` prefers first.

    `draws` are those of the loss law in fitting coordinates.
    """
    evidence, curves = evidence_of(split)
    where = {"n": point.n, "d_total": point.d_total, "bits": point.bits}
    by_fraction = by_loss = None
    if not any(split.law.outside(point)):
        fraction = np.clip(optimal_fraction(split.law, **where).fraction, *split.ranges.get("fraction", (0.0, 1.0)))
        low, high = split_interval(evidence, point, fraction, split.ranges, level=level)
        by_fraction = Answer(
            law=split.law.name,
            fraction=float(fraction[0]),
            interval=(float(low[0]), float(high[0])),
            mean_regret=judged.fraction_law,
            held_out=True,
        )
    if not any(loss.law.outside(point)):
        drawn = None if draws is None else optimal_fraction(loss.law, **where, draws=draws).fraction[:, 0]
        by_loss = Answer(
            law=loss.law.name,
            fraction=float(optimal_fraction(loss.law, **where).fraction[0]),
            interval=None if drawn is None else central(drawn, level),
            mean_regret=judged.loss_law,
            held_out=False,
        )
    in_turn = (by_fraction, by_loss) if judged.fraction_law_answers else (by_loss, by_fraction)
    answers = [answer for answer in in_turn if answer is not None]
    near = sorted(curves, key=lambda c: _distance(c, point))
    every = [f for c in curves for f in c.fractions or ()]
    measured = min(every), max(every)
    ends = [a.interval for a in answers if a.interval is not None]
    return SplitAdvice(
        answer=answers[0],
        other=answers[1] if len(answers) > 1 else None,
        curves=len(curves),
        tolerance=tolerance,
        flat=_flat(near[:_NEIGHBOURS], answers[0].fraction, tolerance, measured),
        measured=measured,
        nearest=_nearest(near[0], tolerance),
        disputed=len(ends) == 2 and max(low for low, _ in ends) > min(high for _, high in ends),
    )


def _distance(curve: CurveRecord, point: Inputs) -> tuple[float, float]:
    apart = abs(math.log2(curve.n / float(point.n[0]))) + abs(math.log2(curve.d_total / float(point.d_total[0])))
    return abs(math.log2(curve.bits / float(point.bits[0]))), apart


def _excess(curve: CurveRecord, fraction: float) -> float:
    at, losses = log_odds(curve.fractions or ()), np.array(curve.losses)
    inside = np.clip(log_odds(fraction), at[0], at[-1])
    return float(shape_preserving(at, losses, inside[None])[0] - losses.min())


def _reach(curve: CurveRecord, tolerance: float) -> tuple[float, float, float]:
    """(log-odds of the lowest loss, how far below and above it the loss stays within the tolerance)."""
    at, losses = log_odds(curve.fractions or ()), np.array(curve.losses)
    lowest = int(np.argmin(losses))
    fine = np.linspace(at[0], at[-1], 801)
    dear = shape_preserving(at, losses, fine) > losses[lowest] + tolerance
    below, above = fine[dear & (fine < at[lowest])], fine[dear & (fine > at[lowest])]
    return (
        float(at[lowest]),
        float(at[lowest] - (below[-1] if below.size else at[0])),
        float((above[0] if above.size else at[-1]) - at[lowest]),
    )


def _flat(near: Sequence[CurveRecord], fraction: float, tolerance: float, measured: Interval) -> Interval:
    """The answer with the median reach of the nearest curves on each side, within what was measured."""
    reaches = [_reach(curve, tolerance) for curve in near]
    below, above = (float(np.median([r[i] for r in reaches])) for i in (1, 2))
    odds = log_odds(np.clip(fraction, *measured))
    return max(float(share(odds - below)), measured[0]), min(float(share(odds + above)), measured[1])


def _nearest(curve: CurveRecord, tolerance: float) -> NearestCurve:
    at, below, above = _reach(curve, tolerance)
    fractions = curve.fractions or ()
    fraction = fractions[int(np.argmin(curve.losses or ()))]
    return NearestCurve(
        n=curve.n,
        d_total=curve.d_total,
        bits=curve.bits,
        fraction=fraction,
        at_end=fraction in (fractions[0], fractions[-1]),
        flat=(float(share(at - below)), float(share(at + above))),
    )
