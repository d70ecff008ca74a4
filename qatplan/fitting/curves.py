"""Measured loss-against-fraction curves and where they have their minimum, interpolated, with its uncertainty."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qatplan.fitting.rows import Rows
from qatplan.laws.inputs import Floats
from qatplan.laws.quantiles import quantiles

_LEAST_POINTS = 5
_WINDOW = 5
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


@dataclass(frozen=True, kw_only=True)
class MeasuredOptimum:
    """The minimum of a curve, or why it has none inside."""

    curve: Curve
    fraction: float
    """NaN where `note` says why."""
    loss: float
    draws: Floats
    """Fractions from artificial curves with the noise of the sweep; NaN where such a curve has no inner minimum."""
    note: str | None

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Interval of the optimal fraction from the draws."""
        known = self.draws[np.isfinite(self.draws)]
        if not known.size:
            return math.nan, math.nan
        tail = 0.5 * (1 - level)
        low, high = quantiles(known, [tail, 1 - tail])
        return float(low), float(high)

    def spread(self) -> float:
        """Standard deviation of the fraction over the draws; NaN without any."""
        known = self.draws[np.isfinite(self.draws)]
        return float(known.std(ddof=1)) if known.size > 1 else math.nan


def curves(rows: Rows) -> list[Curve]:
    """Group quantized rows into curves, one per size, budget, bit width, group size, quantizer and seed.

    Seeds stay apart: runs of one seed share a trunk and its luck, so differences along their curve are clean. Several
    runs at one fraction (other tunings that were not already left out) count by the best.
    """
    x = rows.x
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i in np.flatnonzero(x.quantized).tolist():
        group = None if np.isnan(x.group_size[i]) else float(x.group_size[i])
        seed = None if np.isnan(rows.seed[i]) else float(rows.seed[i])
        key = (float(x.n[i]), float(x.bits[i]), group, rows.method[i][1], seed)
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


def optima(found: list[Curve], *, draws: int, seed: int) -> list[MeasuredOptimum]:
    """The minimum of each curve, by a local cubic in log-odds through the five points about the smallest loss.

    A curve whose smallest loss is at its first or last fraction has its minimum beyond what was measured; that is
    said, not snapped to the end. Uncertainty: artificial curves with normal noise, whose size is pooled from the
    residuals of all local cubics.
    """
    noise = _pooled_noise(found)
    rng = np.random.default_rng([seed, 2])
    result = []
    for curve in found:
        if len(curve.fraction) < _LEAST_POINTS:
            note = f"only {len(curve.fraction)} fractions between 0 and 1; at least {_LEAST_POINTS} make a curve"
            result.append(MeasuredOptimum(curve=curve, fraction=math.nan, loss=math.nan, draws=np.zeros(0), note=note))
            continue
        u = np.log(curve.fraction / (1 - curve.fraction))
        at, loss = _minima(u, curve.loss[None, :])
        artificial = curve.loss * np.exp(noise * rng.standard_normal((draws, len(u))))
        drawn, _ = _minima(u, artificial)
        result.append(
            MeasuredOptimum(
                curve=curve,
                fraction=_logistic(float(at[0])),
                loss=float(loss[0]),
                draws=np.where(np.isnan(drawn), np.nan, 1 / (1 + np.exp(-drawn))),
                note=_note(curve),
            )
        )
    return result


def _note(curve: Curve) -> str | None:
    j = int(np.argmin(curve.loss))
    if j == 0:
        return f"the loss is smallest at the smallest fraction measured, {curve.fraction[0]:.3g}"
    if j == len(curve.loss) - 1:
        return f"the loss is smallest at the largest fraction measured, {curve.fraction[-1]:.3g}"
    for end, loss in curve.ends.items():
        if loss < curve.loss[j]:
            return f"the loss at fraction {end} is smaller than anywhere between"
    return None


def _same_budget(d_total: Floats, members: list[int]) -> list[list[int]]:
    order = sorted(members, key=lambda i: float(d_total[i]))
    parts: list[list[int]] = []
    for i in order:
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


def _pooled_noise(found: list[Curve]) -> float:
    """Standard deviation of log loss along curves: what the local cubics leave, one degree of freedom each."""
    squares = []
    for curve in found:
        if len(curve.fraction) < _LEAST_POINTS:
            continue
        u = np.log(curve.fraction / (1 - curve.fraction))
        j = int(np.argmin(curve.loss))
        part: slice | NDArray[np.intp] = _window(j, len(u))
        x, y = u[part] - u[j], np.log(curve.loss[part])
        left = y - np.vander(x, 4, increasing=True) @ _cubic(x, y[None, :])[0]
        squares.append(float(np.sum(left**2)))
    return math.sqrt(float(np.mean(squares))) if squares else 0.0


def _logistic(u: float) -> float:
    return math.nan if math.isnan(u) else 1.0 / (1.0 + math.exp(-u))
