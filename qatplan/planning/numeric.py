"""One-dimensional minimum and root by repeated grids, vectorised and deterministic; spares SciPy's start-up time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qatplan.laws.inputs import Floats

_POINTS = 65
_ROUNDS = 12

MOST_TOKENS = 1e30
"""Where searches over tokens end: beyond it only a law's limit is left."""


def minimise(
    function: Callable[[Floats], Floats], low: float, high: float, *, rounds: int = _ROUNDS
) -> tuple[float, float]:
    """(x, value) of the smallest value of `function` over [low, high].

    `function` maps an array to an array of the same shape; NaN counts as infinite. Each round keeps the two grid cells
    around the best point, a 32nd of the interval, so a function with one valley wider than a 65th of the interval is
    minimised to rounding. Ends are included. With `rounds` 1 the best grid point is returned as it is.
    """
    best, value, ends = low, np.inf, (low, high)
    for _ in range(rounds):
        grid = np.linspace(low, high, _POINTS)
        values = function(grid)
        values = np.where(np.isnan(values), np.inf, values)
        i = int(np.argmin(values))
        if values[i] < value or not np.isfinite(value):
            best, value = float(grid[i]), float(values[i])
        around = values[max(i - 1, 0) : i + 2]
        # Where the neighbours differ by rounding alone, a finer grid cannot find anything better.
        if float(around.max()) - value <= 1e-13 * abs(value):
            break
        if best in ends and _falls_beyond(values if i else values[::-1]):
            break
        low, high = float(grid[max(i - 1, 0)]), float(grid[min(i + 1, _POINTS - 1)])
    return best, value


def _falls_beyond(values: Floats) -> bool:
    """True when a smooth function still falls at the last point: its drop there outweighs twice the drop's change."""
    before, last = float(values[-3] - values[-2]), float(values[-2] - values[-1])
    return last > 2.0 * abs(before - last)


def first_below(
    function: Callable[[Floats], Floats], target: float, low: float, high: float, *, tolerance: float = 1e-10
) -> float | None:
    """Smallest x in [low, high] at which a falling function has reached `target`; None when it never does.

    Returns `low` when the target is already reached there. Of a function that falls in the large but ripples,
    the first grid cell below the target is followed. The returned x has reached the target and lies within `tolerance`
    of the crossing.
    """
    grid = np.linspace(low, high, _POINTS)
    for _ in range(2 * _ROUNDS):
        values = function(grid)
        reached = values <= target
        i = int(np.argmax(reached))
        if not reached[i]:
            # Nothing here: the target is never reached, or the guess below was too low.
            if grid[-1] >= high:
                return None
            low, grid = float(grid[-1]), np.linspace(float(grid[-1]), high, _POINTS)
            continue
        if i == 0:
            if grid[0] <= low:
                return float(grid[0])
            high, grid = float(grid[0]), np.linspace(low, float(grid[0]), _POINTS)
            continue
        low, high = float(grid[i - 1]), float(grid[i])
        if high - low <= tolerance:
            break
        # The next grid lies closely around where smooth curves through the neighbours cross; where that misses, the
        # whole cell is searched.
        guess, reach = _crossing(grid[max(i - 2, 0) : i + 2], values[max(i - 2, 0) : i + 2] - target)
        reach = max(4.0 * reach, 1e-3 * tolerance)
        near = 4.0 * reach < high - low and low <= guess <= high
        first, last = (max(guess - reach, low), min(guess + reach, high)) if near else (low, high)
        grid = np.linspace(first, last, _POINTS)
    return high


def _crossing(x: Floats, above: Floats) -> tuple[float, float]:
    """(x at which `above` is 0, how far the cubic and the parabola through the points differ there).

    Inverse interpolation by Neville's scheme, through the last points first. NaN where the values do not fall.
    """
    if not np.all(np.diff(above) < 0):
        return np.nan, np.nan
    row = list(x[::-1])
    fall = list(above[::-1])
    lower = row[0]
    for order in range(1, len(row)):
        lower = row[0]
        row = [
            (fall[k] * row[k + 1] - fall[k + order] * row[k]) / (fall[k] - fall[k + order]) for k in range(len(row) - 1)
        ]
    return float(row[0]), float(abs(row[0] - lower))


def root_of_falling(function: Callable[[float], float], target: float, low: float, high: float) -> float:
    """x in [low, high] with function(x) = target for a falling function that brackets it (Illinois false position).

    For functions too costly for a grid. The returned x satisfies function(x) <= target up to rounding.
    """
    f_low, f_high = function(low) - target, function(high) - target
    side = 0
    for _ in range(200):
        if high - low <= 1e-13 * max(abs(low), abs(high), 1.0):
            break
        x = (low * f_high - high * f_low) / (f_high - f_low)
        if not low < x < high:
            x = 0.5 * (low + high)
        value = function(x) - target
        if abs(value) <= 1e-14 * abs(target):
            return x
        if value > 0:
            low, f_low = x, value
            f_high, side = (0.5 * f_high, 1) if side == 1 else (f_high, 1)
        else:
            high, f_high = x, value
            f_low, side = (0.5 * f_low, -1) if side == -1 else (f_low, -1)
    return high


def shape_preserving(x: Floats, y: Floats, at: Floats) -> Floats:
    """Values at `at`, between x[0] and x[-1], of the cubic through (x, y) that keeps their shape.

    It is SciPy's PchipInterpolator: slopes are weighted harmonic means of those beside them, 0 where these differ in
    sign (Fritsch & Butland 1984, doi 10.1137/0905021). x ascends and has at least 3 points.
    """
    step, rise = np.diff(x), np.diff(y) / np.diff(x)
    slope = np.zeros_like(y)
    same = rise[:-1] * rise[1:] > 0
    left, right = 2.0 * step[1:] + step[:-1], step[1:] + 2.0 * step[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        slope[1:-1] = np.where(same, (left + right) / (left / rise[:-1] + right / rise[1:]), 0.0)
    for end, inner in ((0, 1), (-1, -2)):
        made = ((2.0 * step[end] + step[inner]) * rise[end] - step[end] * rise[inner]) / (step[end] + step[inner])
        if made * rise[end] <= 0:
            made = 0.0
        elif rise[end] * rise[inner] <= 0 and abs(made) > 3.0 * abs(rise[end]):
            made = 3.0 * rise[end]
        slope[end] = made
    k = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(step) - 1)
    t = (at - x[k]) / step[k]
    result: Floats = (
        (1.0 + 2.0 * t) * (1.0 - t) ** 2 * y[k]
        + t * (1.0 - t) ** 2 * step[k] * slope[k]
        + t**2 * (3.0 - 2.0 * t) * y[k + 1]
        - t**2 * (1.0 - t) * step[k] * slope[k + 1]
    )
    return result
