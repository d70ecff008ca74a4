"""Measured loss-against-fraction curves and where they have their minimum, interpolated, with its uncertainty."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qatplan.errors import DataError
from qatplan.fitting.rows import Rows, known, select
from qatplan.laws.fit_parts import CurveRecord, FractionDiagnostics, Pair
from qatplan.laws.fitted import FittedLaw
from qatplan.laws.inputs import Floats
from qatplan.laws.odds import log_odds, share
from qatplan.laws.qat_fraction import QatFraction
from qatplan.laws.quantiles import central

_LEAST_POINTS = 5
_WINDOW = 5
_FEWEST = 3
"""Fractions that a curve must have to be shown at all."""
_DRAWS = 400
_SAME_TOKENS = 0.02  # fractions are rounded to whole steps, so D_total of one curve varies a little


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Losses of one model, budget, bit width and seed against the QAT fraction."""

    n: float
    d_total: float
    bits: float
    group_size: float
    quantizer: str | None
    seed: float
    fraction: Floats
    """(points,) ascending, strictly between 0 and 1."""
    loss: Floats
    ends: dict[str, float]
    """Losses measured at fraction 0 (rounded after training) and 1 (QAT from scratch), where there are any."""

    @property
    def s_total(self) -> float:
        """Tokens per parameter byte."""
        return self.d_total / (self.n * self.bits / 8.0)

    @property
    def log_odds(self) -> Floats:
        """ln(f / (1 - f)) of the fractions."""
        return log_odds(self.fraction)


class NoMinimum(Enum):
    """Why a curve has no minimum between its fractions."""

    FEW_FRACTIONS = "only {points} fractions between 0 and 1; at least {least} make a curve"
    AT_SMALLEST = "the loss is smallest at the smallest fraction measured, {fraction:.3g}"
    AT_LARGEST = "the loss is smallest at the largest fraction measured, {fraction:.3g}"
    AT_0 = "the loss at fraction 0 is smaller than anywhere between"
    AT_1 = "the loss at fraction 1 is smaller than anywhere between"

    def sentence(self, curve: Curve) -> str:
        """What it means for a curve."""
        points = len(curve.fraction)
        at = curve.fraction[0 if self is NoMinimum.AT_SMALLEST else -1] if points else math.nan
        return self.value.format(points=points, least=_LEAST_POINTS, fraction=at)


@dataclass(frozen=True, kw_only=True)
class Minimum:
    """The minimum of a curve, or why it has none inside."""

    curve: Curve
    fraction: float
    """NaN where `none` says why."""
    loss: float
    draws: Floats
    """Fractions from artificial curves with the noise of the sweep; NaN where such a curve has no inner minimum."""
    none: NoMinimum | None

    @property
    def note(self) -> str | None:
        """Why there is no minimum, in a sentence."""
        return None if self.none is None else self.none.sentence(self.curve)

    @property
    def known(self) -> Floats:
        """The draws that have an inner minimum."""
        return self.draws[np.isfinite(self.draws)]

    def interval(self, level: float = 0.95) -> Pair:
        """Interval of the optimal fraction from the draws."""
        return central(self.known, level) if self.known.size else (math.nan, math.nan)

    def deviation(self) -> float:
        """Standard deviation of the fraction over the draws; NaN without any."""
        return float(self.known.std(ddof=1)) if self.known.size > 1 else math.nan


@dataclass(frozen=True, kw_only=True)
class MeasuredOptimum:
    """Where a measured curve of loss against the fraction is lowest, with its interval."""

    n: float
    d_total: float
    bits: float
    fraction: float
    low: float
    high: float
    """Interval of the fraction; an end of it may be an end of what was measured."""
    end: int = 0
    """0 where the optimum lies between measured fractions; -1 or +1 where loss is lowest at the first or last."""

    @property
    def s_total(self) -> float:
        """Tokens per parameter byte, D_total / (N * bits / 8)."""
        return self.d_total / (self.n * self.bits / 8.0)


def measured_optima(
    table: Any, *, n: str = "total", expression: str | None = None, level: float = 0.95
) -> list[MeasuredOptimum]:
    """The optimum of every curve of loss against the fraction in a runs table, with its interval at `level`.

    Curves are those that the fraction law is fitted on: the classic schedule unless `expression` chooses rows. A
    curve whose loss is lowest at its first or last fraction, or at 0 or 1, is returned there with its `end` set; one
    with fewer than three fractions, or with an inner minimum that its points are too few to locate, is left out.
    """
    try:
        rows = select(table, QatFraction.name, shape=QatFraction, expression=expression, n=n)
    except DataError:
        return []
    found = [m for m in minima(curves(rows), draws=_DRAWS, seed=0) if len(m.curve.fraction) >= _FEWEST]
    return [made for m in found if (made := _measured(m, level)) is not None]


def recorded_optima(fitted: FittedLaw) -> list[MeasuredOptimum]:
    """The inner optima that a fit of the fraction law was made from; none for other fits."""
    known = fitted.diagnostics.curves if isinstance(fitted.diagnostics, FractionDiagnostics) else ()
    return [_with_interval(c, c.optimum, c.interval) for c in known if c.optimum is not None and c.interval is not None]


def _measured(minimum: Minimum, level: float) -> MeasuredOptimum | None:
    curve = minimum.curve
    if minimum.none is None:
        return _with_interval(curve, minimum.fraction, minimum.interval(level))
    end = _end(curve)
    at = float(curve.fraction[0 if end < 0 else -1])
    return _with_interval(curve, at, (at, at), end) if end else None


def _with_interval(curve: Curve | CurveRecord, at: float, interval: Pair, end: int = 0) -> MeasuredOptimum:
    low, high = (min(interval[0], at), max(interval[1], at)) if all(map(math.isfinite, interval)) else (at, at)
    return MeasuredOptimum(n=curve.n, d_total=curve.d_total, bits=curve.bits, fraction=at, low=low, high=high, end=end)


def _end(curve: Curve) -> int:
    """-1 or +1 where the lowest loss is at the low or high end of what was measured, ends included; 0 inside."""
    at = [*(float(e) for e in curve.ends), *curve.fraction.tolist()]
    where = at[int(np.argmin([*curve.ends.values(), *curve.loss.tolist()]))]
    return -1 if where <= curve.fraction[0] else 1 if where >= curve.fraction[-1] else 0


def curves(rows: Rows) -> list[Curve]:
    """Group quantized rows into curves, one per size, budget, bit width, group size, quantizer and seed.

    Seeds stay apart: runs of one seed share a trunk and its effect, so differences along their curve are clean. Several
    runs at one fraction (other tunings that were not already left out) count by the best.
    """
    x = rows.x
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i in np.flatnonzero(x.quantized).tolist():
        key = (float(x.n[i]), float(x.bits[i]), known(x.group_size[i]), rows.method[i][1], known(rows.seed[i]))
        groups.setdefault(key, []).append(i)
    result = []
    for (n, bits, group, quantizer, seed), members in sorted(groups.items(), key=lambda g: str(g[0])):
        for part in _same_budget(x.d_total, members):
            best: dict[float, float] = {}
            for i in part:
                f = round(float(x.fraction[i]), 6)
                best[f] = min(best.get(f, math.inf), float(rows.y[i]))
            inner = sorted(f for f in best if 0 < f < 1)
            ends = {str(int(f)): best[f] for f in best if f in (0.0, 1.0)}
            result.append(
                Curve(
                    n=n,
                    d_total=float(np.median(x.d_total[part])),
                    bits=bits,
                    group_size=math.nan if group is None else group,
                    quantizer=quantizer,
                    seed=math.nan if seed is None else seed,
                    fraction=np.array(inner),
                    loss=np.array([best[f] for f in inner]),
                    ends=ends,
                )
            )
    return sorted(result, key=lambda c: (c.n, c.d_total, c.bits, c.seed))


def minima(found: list[Curve], *, draws: int, seed: int) -> list[Minimum]:
    """The minimum of each curve, by a local cubic in log-odds through the five points about the smallest loss.

    A curve whose smallest loss is at its first or last fraction has its minimum beyond what was measured; it is not
    snapped to the end. Uncertainty: artificial curves with normal noise, whose size is pooled from the residuals of
    all local cubics.
    """
    noise = pooled_noise(found)
    rng = np.random.default_rng([seed, 2])
    result = []
    for curve in found:
        fraction, loss, drawn = math.nan, math.nan, np.zeros(0)
        none: NoMinimum | None = NoMinimum.FEW_FRACTIONS
        if len(curve.fraction) >= _LEAST_POINTS:
            at, lowest = _minima(curve.log_odds, curve.loss[None, :])
            drawn = share(artificial_minima(curve, noise, draws, rng)[0])
            fraction, loss, none = float(share(at[0])), float(lowest[0]), _why_none(curve)
        result.append(Minimum(curve=curve, fraction=fraction, loss=loss, draws=drawn, none=none))
    return result


def artificial_minima(
    curve: Curve, noise: float, draws: int, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.intp]]:
    """(log-odds of the minima of curves with normal noise on log loss, NaN at an end; -1, 0 or +1: at which end)."""
    losses = curve.loss * np.exp(noise * rng.standard_normal((draws, len(curve.loss))))
    best = np.argmin(losses, axis=1)
    return _minima(curve.log_odds, losses)[0], (best == len(curve.loss) - 1).astype(np.intp) - (best == 0)


def _why_none(curve: Curve) -> NoMinimum | None:
    j = int(np.argmin(curve.loss))
    if j == 0:
        return NoMinimum.AT_SMALLEST
    if j == len(curve.loss) - 1:
        return NoMinimum.AT_LARGEST
    lower = [end for end, loss in curve.ends.items() if loss < curve.loss[j]]
    return NoMinimum[f"AT_{lower[0]}"] if lower else None


def _same_budget(d_total: Floats, members: list[int]) -> list[list[int]]:
    parts: list[list[int]] = []
    for i in sorted(members, key=lambda i: float(d_total[i])):
        if parts and d_total[i] <= d_total[parts[-1][0]] * (1 + _SAME_TOKENS):
            parts[-1].append(i)
        else:
            parts.append([i])
    return parts


def _window(j: int, points: int) -> slice:
    begin = min(max(j - _WINDOW // 2, 0), points - _WINDOW)
    return slice(begin, begin + _WINDOW)


def _minima(u: Floats, losses: Floats) -> tuple[Floats, Floats]:
    """(log-odds, loss) of the minimum of each row of losses (K, points); NaN where it lies at an end."""
    best = np.argmin(losses, axis=1)
    at, value = np.full(len(losses), np.nan), np.full(len(losses), np.nan)
    for j in np.unique(best).tolist():
        if j in (0, len(u) - 1):
            continue
        part, rows = _window(j, len(u)), np.flatnonzero(best == j)
        coefficients = _cubic(u[part] - u[j], losses[rows][:, part])
        x, y = _cubic_minimum(coefficients, u[j - 1] - u[j], u[j + 1] - u[j])
        at[rows], value[rows] = x + u[j], y
    return at, value


def _cubic(x: Floats, y: Floats) -> Floats:
    """(K, 4) coefficients, constant first, of least-squares cubics through y (K, points) at x (points,)."""
    scale = float(np.max(np.abs(x)))
    basis = np.vander(x / scale, 4, increasing=True)
    fitted: Floats = y @ np.linalg.pinv(basis).T / scale ** np.arange(4)
    return fitted


def _cubic_minimum(c: Floats, low: float, high: float) -> tuple[Floats, Floats]:
    """Minimum of each cubic within [low, high]; where it has none inside, that of the parabola's clipped vertex."""
    a, b, d = 3 * c[:, 3], 2 * c[:, 2], c[:, 1]
    root = np.sqrt(np.maximum(b * b - 4 * a * d, 0.0))
    # The numerically safe form of (-b + root) / (2 a), which is the root with positive curvature.
    with np.errstate(divide="ignore", invalid="ignore"):
        x = np.where(b >= 0, -2 * d / (b + root), (root - b) / (2 * a))
    x = np.where(np.isfinite(x) & (b * b >= 4 * a * d), x, np.where(d > 0, low, high))
    x = np.clip(x, low, high)
    return x, c[:, 0] + x * (c[:, 1] + x * (c[:, 2] + x * c[:, 3]))


def pooled_noise(found: list[Curve]) -> float:
    """Standard deviation of log loss along curves: what the local cubics leave, one degree of freedom each."""
    squares = []
    for curve in found:
        if len(curve.fraction) < _LEAST_POINTS:
            continue
        u = curve.log_odds
        j = int(np.argmin(curve.loss))
        part = _window(j, len(u))
        x, y = u[part] - u[j], np.log(curve.loss[part])
        left = y - np.vander(x, 4, increasing=True) @ _cubic(x, y[None, :])[0]
        squares.append(float(np.sum(left**2)))
    return math.sqrt(float(np.mean(squares))) if squares else 0.0
