"""Quantiles of what a fit's draws say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qatplan.laws.inputs import Floats


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
