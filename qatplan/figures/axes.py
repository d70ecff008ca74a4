"""Axes that suit the quantities: log-odds for fractions with 0 and 1 set apart, log axes with round ticks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator
from numpy.typing import ArrayLike, NDArray

from qatplan.figures.style import FAINT
from qatplan.laws.predictor import Band

FloatArray = NDArray[np.float64]

_TICKS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99, 0.997, 0.999)
_SHORT_TICKS = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)


@dataclass(frozen=True, kw_only=True)
class FractionScale:
    """Positions on a log-odds axis; a fraction of exactly 0 or 1 stands apart beyond a break.

    `low` and `high` are the outermost interior fractions shown.
    """

    low: float
    high: float
    has_zero: bool
    has_one: bool

    @classmethod
    def spanning(cls, fractions: ArrayLike) -> FractionScale:
        """The scale that holds every fraction in [0, 1] given; never narrower than 0.1 to 0.5."""
        values = np.asarray(fractions, dtype=float)
        values = values[np.isfinite(values)]
        inner = values[(values > 0) & (values < 1)]
        low = min(float(inner.min()), 0.1) if inner.size else 0.1
        high = max(float(inner.max()), 0.5) if inner.size else 0.5
        return cls(low=low, high=high, has_zero=bool((values == 0).any()), has_one=bool((values == 1).any()))

    @property
    def gap(self) -> float:
        """Distance, in log-odds, between the outermost interior fraction and the set-apart end."""
        return 0.16 * float(_logit(self.high) - _logit(self.low))

    def positions(self, fractions: ArrayLike) -> FloatArray:
        """Where fractions in [0, 1] lie, in units of log-odds."""
        values = np.asarray(fractions, dtype=float)
        inner = _logit(np.clip(values, 1e-12, 1 - 1e-12))
        ends = np.where(values <= 0, _logit(self.low) - self.gap, _logit(self.high) + self.gap)
        return np.where((values > 0) & (values < 1), inner, ends)

    def grid(self, points: int = 160) -> FloatArray:
        """Interior fractions, evenly spaced in log-odds."""
        return np.asarray(1 / (1 + np.exp(-np.linspace(_logit(self.low), _logit(self.high), points))))

    def apply(self, axes: Axes, short: bool = False) -> None:
        """Ticks, limits and breaks on the horizontal axis of `axes`."""
        margin, slack, wanted = 0.35 * self.gap, 1e-9, _SHORT_TICKS if short else _TICKS
        inner = [t for t in wanted if self.low * (1 - slack) <= t <= self.high + slack]
        ticks = ([0.0] if self.has_zero else []) + inner + ([1.0] if self.has_one else [])
        spots = self.positions(ticks)
        axes.xaxis.set_ticks(spots.tolist(), labels=[f"{t:g}".replace("0.", ".", 1) for t in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        left = float(self.positions(0.0)) if self.has_zero else float(_logit(self.low))
        right = float(self.positions(1.0)) if self.has_one else float(_logit(self.high))
        axes.set_xlim(left - margin, right + margin)
        for present, edge, sign in ((self.has_zero, self.low, -1), (self.has_one, self.high, 1)):
            if present:
                place = float(_logit(edge)) + sign * self.gap / 2
                axes.axvline(place, color=FAINT, linewidth=0.5, linestyle=(0, (1, 2.2)), zorder=0)


def _logit(value: ArrayLike) -> FloatArray:
    array = np.asarray(value, dtype=float)
    return np.asarray(np.log(array / (1 - array)))


def nice_log_ticks(low: float, high: float, most: int = 6, base: float = 10.0) -> list[float]:
    """Round values within [low, high], at most `most`: 1-2-5 steps for base 10, powers of two for base 2."""
    if base == 2.0:
        first, last = int(np.ceil(np.log2(low) - 1e-9)), int(np.floor(np.log2(high) + 1e-9))
        step = max(1, -(-(last - first + 1) // most))
        return [2.0**e for e in range(first, last + 1, step)]
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    for steps in ((1.0, 1.5, 2.0, 3.0, 5.0, 7.0), (1.0, 2.0, 5.0), (1.0, 3.0), (1.0,)):
        ticks = [s * 10.0**d for d in decades for s in steps if low * (1 - 1e-9) <= s * 10.0**d <= high * (1 + 1e-9)]
        if len(ticks) <= most:
            break
    if len(ticks) > most:
        ticks = ticks[:: -(-len(ticks) // most)]
    return ticks or [float(np.sqrt(low * high))]


def log_axis(
    axes: Axes, which: str, low: float, high: float, name: Callable[[float], str], most: int = 6, base: float = 10.0
) -> None:
    """A log axis from `low` to `high` whose ticks are round and written by `name`; `which` is "x" or "y"."""
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    ticks = nice_log_ticks(low, high, most, base)
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks(ticks, labels=[name(t) for t in ticks])
    axis.set_minor_locator(NullLocator())


def padded_log(values: ArrayLike, share: float = 0.06, least: float = 0.08) -> tuple[float, float]:
    """Limits around positive values on a log axis, padded by `share` of the span (at least `least` in natural log)."""
    array = np.asarray(values, dtype=float)
    array = np.log(array[np.isfinite(array) & (array > 0)])
    pad = max(share * float(array.max() - array.min()), least)
    return float(np.exp(array.min() - pad)), float(np.exp(array.max() + pad))


def shade(axes: Axes, x: FloatArray, band: Band, color: str, alpha: float | None, zorder: float) -> None:
    """Fill between the ends of a band, where it has any."""
    if band.low is not None and band.high is not None:
        axes.fill_between(x, band.low, band.high, color=color, alpha=alpha, linewidth=0, zorder=zorder)
