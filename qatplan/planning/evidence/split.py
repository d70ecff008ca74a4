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
from qatplan.laws.law import Law
from qatplan.laws.quantiles import central
from qatplan.laws.split_interval import split_interval

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


def regret_of(law: Law, split: FittedLaw) -> float:
    """Mean loss above the lowest measured that a loss law's splits cost on the curves of a fraction fit, nats a token.

    Between measured fractions the loss is a straight line in log-odds. NaN for a law without a value at some curve.
    """
    _, curves = evidence_of(split)
    n, d_total, bits = ([getattr(c, name) for c in curves] for name in ("n", "d_total", "bits"))
    if any(law.outside(Inputs.of(n=n, d_total=d_total, bits=bits, fraction=0.5))):
        return math.nan
    said = optimal_fraction(law, n=n, d_total=d_total, bits=bits).fraction
    return float(np.mean([_excess(c, f) for c, f in zip(curves, said, strict=True)]))


def advise(
    split: FittedLaw, loss: FittedLaw, point: Inputs, *, level: float, tolerance: float, draws: Floats | None
) -> SplitAdvice:
    """The answer of both laws at one point. `draws` are those of the loss law in fitting coordinates.

    The law whose splits cost less on the measured curves answers: the fraction law's cost counts on curves held out by
    cell, the loss law's on curves that it may have seen, which favours it.
    """
    evidence, curves = evidence_of(split)
    where = {"n": point.n, "d_total": point.d_total, "bits": point.bits}
    answers = []
    if not any(split.law.outside(point)):
        fraction = np.clip(optimal_fraction(split.law, **where).fraction, *split.ranges.get("fraction", (0.0, 1.0)))
        low, high = split_interval(evidence, point, fraction, split.ranges, level=level)
        by_cell = next((s.mean_regret for s in evidence.scores if s.way == "cell"), math.nan)
        answers.append(
            Answer(
                law=split.law.name,
                fraction=float(fraction[0]),
                interval=(float(low[0]), float(high[0])),
                mean_regret=by_cell,
                held_out=True,
            )
        )
    if not any(loss.law.outside(point)):
        interval = None
        if draws is not None:
            drawn = optimal_fraction(loss.law, **where, draws=draws).fraction[:, 0]
            interval = central(drawn, level)
        best = float(optimal_fraction(loss.law, **where).fraction[0])
        cost = regret_of(loss.law, split)
        answers.append(Answer(law=loss.law.name, fraction=best, interval=interval, mean_regret=cost, held_out=False))
    answers.sort(key=lambda a: math.inf if math.isnan(a.mean_regret) else a.mean_regret)
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


def _measured(curve: CurveRecord) -> tuple[Floats, Floats]:
    """(log-odds of the fractions, losses) of a curve."""
    f = np.array(curve.fractions)
    return np.log(f) - np.log1p(-f), np.array(curve.losses)


def _excess(curve: CurveRecord, fraction: float) -> float:
    at, losses = _measured(curve)
    inside = min(max(fraction, curve.fractions[0]), curve.fractions[-1]) if curve.fractions else fraction
    return float(np.interp(math.log(inside) - math.log1p(-inside), at, losses) - losses.min())


def _reach(curve: CurveRecord, tolerance: float) -> tuple[float, float, float]:
    """(log-odds of the lowest loss, how far below and above it the loss stays within the tolerance)."""
    at, losses = _measured(curve)
    lowest = int(np.argmin(losses))
    fine = np.linspace(at[0], at[-1], 801)
    dear = np.interp(fine, at, losses) > losses[lowest] + tolerance
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
    odds = math.log(fraction) - math.log1p(-fraction) if 0 < fraction < 1 else math.copysign(40.0, fraction - 0.5)
    return max(_share(odds - below), measured[0]), min(_share(odds + above), measured[1])


def _nearest(curve: CurveRecord, tolerance: float) -> NearestCurve:
    at, below, above = _reach(curve, tolerance)
    measured = _measured(curve)[0]
    return NearestCurve(
        n=curve.n,
        d_total=curve.d_total,
        bits=curve.bits,
        fraction=_share(at),
        at_end=at in (float(measured[0]), float(measured[-1])),
        flat=(_share(at - below), _share(at + above)),
    )


def _share(odds: float) -> float:
    return 1.0 / (1.0 + math.exp(-min(max(odds, -700.0), 700.0)))
