"""The parameters of a fit with their intervals, each relative to its estimate so that all share one axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from qatplan.errors import DataError
from qatplan.figures.axes import nice_log_ticks
from qatplan.figures.style import FAINT, INK, applied, panel_grid, text_width

if TYPE_CHECKING:
    from qatplan.laws.fitted import FittedLaw

_WIDEST = 10.0
"""Intervals reaching beyond a tenth or ten times the estimate are cut there and end in an arrow."""

_PANEL = 2.5
"""Width of the panel, inches."""
_BESIDE = 1.03
"""Where the column of numbers begins, in widths of the panel."""
_SIZE, _MEANING_SIZE = 6.5, 6.2
"""Type sizes of that column and of the meanings at the left, points."""
_LEFT = 0.15
"""Where the meanings end, in widths of the panel left of it."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One parameter: its value and interval in its own unit."""

    name: str
    symbol: str
    unit: str
    meaning: str
    value: float
    low: float | None
    high: float | None
    at_bound: bool

    @property
    def relative(self) -> tuple[float, float] | None:
        """The interval over the estimate; None without an interval, or where the estimate is not positive."""
        if self.low is None or self.high is None or self.value <= 0:
            return None
        return self.low / self.value, self.high / self.value

    @property
    def cut(self) -> bool:
        """Whether the interval goes on beyond the axis."""
        ratio = self.relative
        return ratio is not None and (ratio[0] < 1 / _WIDEST or ratio[1] > _WIDEST)

    @property
    def text(self) -> str:
        """Value, interval and unit, as the column at the right has them: four significant digits."""
        interval = "" if self.low is None or self.high is None else f"  [{self.low:.4g}, {self.high:.4g}]"
        unit = "" if self.unit in ("", "1") else f" {self.unit.replace(' * ', ' · ')}"
        return f"{self.value:.4g}{interval}".replace("-", "−") + unit


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Everything `draw` needs."""

    estimates: tuple[Estimate, ...]
    title: str
    notes: tuple[str, ...]


def parameters(fitted: FittedLaw) -> Parameters:
    """The series of a fit, in the law's own order. Raises DataError for a law without parameters."""
    estimates = []
    for parameter in fitted.law.parameters():
        value = fitted.params[parameter.name]
        ends = fitted.intervals.get(parameter.name, (np.nan, np.nan))
        low, high = map(float, ends) if np.isfinite(ends).all() else (None, None)
        edges = [e for e in (parameter.lower, parameter.upper) if np.isfinite(e)]
        at_bound = any(abs(value - e) <= 1e-9 * max(1.0, abs(e)) for e in edges)
        estimates.append(
            Estimate(
                name=parameter.name, symbol=parameter.symbol, unit=parameter.unit, meaning=parameter.meaning,
                value=value, low=low, high=high, at_bound=at_bound,
            )
        )  # fmt: skip
    if not estimates:
        raise DataError(f"the law {fitted.law.name} has no parameters to draw.")
    notes = []
    if fitted.intervals:
        kind = {"bootstrap": "bootstrap", "profile": "profile-likelihood"}.get(fitted.interval_kind, "confidence")
        notes.append(f"Bars: {fitted.level:.0%} {kind} intervals relative to the estimate.")
    else:
        notes.append("This fit records no intervals; fit again with --bootstrap to have them.")
    if any(e.at_bound for e in estimates):
        notes.append("Hollow: the estimate lies at a bound of the parameter.")
    if any(e.cut for e in estimates):
        notes.append("An arrow marks an interval that goes on beyond the axis.")
    if any(e.value <= 0 for e in estimates):
        notes.append("An estimate that is not positive has no place on this axis; its numbers stand at the right.")
    return Parameters(estimates=tuple(estimates), title=_title(fitted.law.name, estimates), notes=tuple(notes))


def _title(name: str, estimates: list[Estimate]) -> str:
    ratios = [r for e in estimates if (r := e.relative) is not None]
    if not ratios:
        return f"Law {name}: {len(estimates)} estimated parameters"
    wide = sum(low < 0.5 or high > 2.0 for low, high in ratios)
    known = "every parameter is" if wide == 0 else f"{len(ratios) - wide} of {len(ratios)} parameters are"
    return f"Law {name}: {known} known within a factor of two"


@applied()
def draw(series: Parameters) -> Figure:
    """A row a parameter: what it means, its interval over the estimate, its numbers."""
    rows = len(series.estimates)
    numbers = max(text_width(estimate.text, _SIZE) for estimate in series.estimates)
    meanings = max(text_width(estimate.meaning, _MEANING_SIZE) for estimate in series.estimates)
    figure, [[axes]] = panel_grid(
        series.title, series.notes, panel=(_PANEL, 0.21 * rows + 0.1), left=_LEFT * _PANEL + meanings + 0.1,
        right=(_BESIDE - 1.0) * _PANEL + numbers + 0.1, top=0.2,
    )  # fmt: skip
    _axis(axes, series, rows)
    for i, estimate in enumerate(series.estimates):
        _row(axes, estimate, i)
    return figure


def _axis(axes: Axes, series: Parameters, rows: int) -> None:
    edges = [edge for e in series.estimates if (r := e.relative) is not None for edge in r]
    inside = [min(max(e, 1 / _WIDEST), _WIDEST) for e in edges] + [0.8, 1.25]
    reach = 1.06 * max(max(abs(np.log(v)) for v in inside), 0.2)
    low, high = float(np.exp(-reach)), float(np.exp(reach))
    axes.set(xscale="log", xlim=(low, high), ylim=(rows - 0.4, -0.6), xlabel="Value relative to the estimate")
    ticks = nice_log_ticks(low, high, most=7)
    ticks = sorted({1.0, *(t for t in ticks if abs(np.log(t)) > 0.12 * reach)})
    axes.xaxis.set_ticks(ticks, labels=[f"{t:g}" for t in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(NullLocator())
    axes.spines["left"].set_visible(False)
    axes.axvline(1.0, color=FAINT, linewidth=0.6, zorder=0)


def _row(axes: Axes, estimate: Estimate, i: int) -> None:
    left, right = axes.get_xlim()
    if i % 2 == 0:
        axes.axhspan(i - 0.5, i + 0.5, color="0.96", linewidth=0, zorder=-1)
    ratio = estimate.relative
    if ratio is not None:
        low, high = max(ratio[0], left), min(ratio[1], right)
        axes.plot([low, high], [i, i], color=INK, linewidth=1.3, solid_capstyle="butt", zorder=2)
        for value, edge, marker in ((ratio[0], left, "<"), (ratio[1], right, ">")):
            if (value < edge) if marker == "<" else (value > edge):
                axes.plot([edge], [i], marker=marker, markersize=4, color=INK, clip_on=False, zorder=3)
            else:
                axes.plot([value], [i], marker="|", markersize=5, color=INK, zorder=3)
    if estimate.value > 0:
        axes.plot([1.0], [i], marker="o", markersize=4, color=INK, zorder=4, linestyle="none",
                  markerfacecolor="white" if estimate.at_bound else INK)  # fmt: skip
    place = axes.get_yaxis_transform()
    axes.text(_BESIDE, i, estimate.text, transform=place, va="center", fontsize=_SIZE)
    # The meaning is set apart from the symbol, so that a reader can find a parameter by either.
    axes.text(-0.03, i, estimate.symbol, transform=place, va="center", ha="right", fontsize=7.5)
    axes.text(-_LEFT, i, estimate.meaning, transform=place, va="center", ha="right", fontsize=_MEANING_SIZE,
              color="#454545")  # fmt: skip
