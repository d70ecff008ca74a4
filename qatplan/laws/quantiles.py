"""Quantiles of what a fit's draws say."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from qatplan.laws.inputs import Floats

_REACH, _STEPS = 8.0, 26
_AT = np.linspace(-_REACH, _REACH, 1601)
_BELOW = np.array([0.5 * math.erfc(-z / math.sqrt(2.0)) for z in _AT])
"""The normal distribution function: scipy's takes longer to load than a plan to make."""


def quantiles(values: Floats, shares: Sequence[float]) -> Floats:
    """(shares, ...): quantiles along the first axis, as `numpy.quantile` with method "weibull" makes them.

    Between the 5th smallest and the 5th largest of 199 draws a further one falls in 95 of 100 cases on average;
    numpy's default would be a little narrower. `numpy.quantile` itself loads masked arrays, a tenth of the planner's
    time, and makes NaN of infinite values.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=0)
    at = np.clip(np.asarray(shares, dtype=np.float64) * (len(ordered) + 1) - 1, 0, len(ordered) - 1)
    below = np.minimum(at.astype(np.int64), max(len(ordered) - 2, 0))
    weight = (at - below).reshape(-1, *([1] * (ordered.ndim - 1)))
    above = np.minimum(below + 1, len(ordered) - 1)
    low, high = ordered[below], ordered[above]
    # Draws of a law that diverges are infinite, and between two of them, or at one, nothing is to be interpolated.
    between = (high != low) & (weight > 0)
    rise = np.subtract(high, low, out=np.zeros_like(low), where=between)
    result: Floats = low + np.multiply(weight, rise, out=np.zeros_like(low), where=between)
    return result


def central(values: Floats, level: float) -> tuple[float, float]:
    """The ends between which the central `level` of values (draws,) lies."""
    tail = 0.5 * (1 - level)
    low, high = quantiles(values, [tail, 1 - tail])
    return float(low), float(high)


def quantiles_of_runs(losses: Floats, noise: float, shares: Sequence[float]) -> Floats:
    """(shares, ...): of the loss of one new run, log-normal about each draw's mean loss (draws, ...).

    They are found by bisection, and never lie inside the quantiles of the mean, which few draws move outwards.
    """
    result = quantiles(losses, shares)
    if noise <= 0:
        return result
    logs = np.log(losses)
    finite = np.isfinite(logs)
    some = finite.any(axis=0)
    lowest = np.where(some, np.min(logs, axis=0, where=finite, initial=np.inf), 0.0)
    highest = np.where(some, np.max(logs, axis=0, where=finite, initial=-np.inf), 0.0)
    for i, share in enumerate(shares):
        low, high = lowest - _REACH * noise, highest + _REACH * noise
        for _ in range(_STEPS):
            middle = 0.5 * (low + high)
            less = np.mean(np.interp((middle - logs) / noise, _AT, _BELOW), axis=0) < share
            low, high = np.where(less, middle, low), np.where(less, high, middle)
        outer = np.minimum if share < 0.5 else np.maximum
        result[i] = np.where(finite.mean(axis=0) < share, np.inf, outer(result[i], np.exp(high)))
    return result
