"""Which bit width gives the lowest loss for the memory its weights take, at a fixed number of training tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from qatplan.errors import UsageError
from qatplan.figures.axes import log_axis, shade
from qatplan.figures.style import CONTROL, applied, bits_look, bits_name, legend, panel_grid
from qatplan.laws.inputs import Inputs
from qatplan.laws.optimum import optimal_fraction
from qatplan.laws.predictor import Band, FloatArray, Predictor
from qatplan.units import format_bytes, format_count

_POINTS = 121
_FULL_BITS = 16.0
"""Bits per weight that a full-precision model is assumed to be stored at."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One bit width: lowest loss at each memory, over all QAT fractions."""

    bits: float
    loss: FloatArray
    inside: NDArray[np.bool_]
    """Whether the model that fills the memory lies within the fitted range of sizes."""
    best: FloatArray | None
    """Share of the draws in which this bit width has the lowest loss; None without draws."""


@dataclass(frozen=True, kw_only=True)
class Region:
    """A range of memory (bytes) in which one bit width has the lowest loss."""

    bits: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """Everything `draw` needs. Arrays have the shape of `memory`."""

    d_total: float
    memory: FloatArray
    """Bytes of weights, N * bits / 8."""
    choices: tuple[Choice, ...]
    lowest: Band
    """Loss of the best bit width at each memory."""
    full_precision: FloatArray
    """Loss of a full-precision model that takes the memory at 16 bits per weight."""
    regions: tuple[Region, ...]
    title: str
    notes: tuple[str, ...]


def frontier(predictor: Predictor, *, bits: Sequence[float], d_total: float, sizes: tuple[float, float]) -> Frontier:
    """The series for a fitted loss law; `sizes` is the fitted range of parameters, which says what is extrapolated.

    Raises UsageError for a law whose loss does not depend on the QAT fraction, or without a bit width.
    """
    if not predictor.law.sees_fraction:
        raise UsageError(
            f"the law {predictor.law.name} gives no loss that depends on the split; a frontier needs a fit of qat-loss."
        )
    widths = sorted(set(bits))
    if not widths:
        raise UsageError("--bits is missing: the fit records no bit width, and a frontier needs at least one.")
    low, high = sizes[0] * widths[0] / 8, sizes[1] * widths[-1] / 8
    memory = np.geomspace(low, max(high, 4 * low), _POINTS)
    sized = {b: memory * 8 / b for b in widths}
    values = np.array([optimal_fraction(predictor.law, n=n, d_total=d_total, bits=b).loss for b, n in sized.items()])
    share, lowest = None, Band(value=values.min(axis=0), low=None, high=None)
    if predictor.draws is not None:
        best = partial(optimal_fraction, predictor.law, d_total=d_total, draws=predictor.draws)
        drawn = np.array([best(n=n, bits=b).loss for b, n in sized.items()])
        share = [(np.argmin(drawn, axis=0) == i).mean(axis=0) for i in range(len(widths))]
        low_loss, high_loss = predictor.interval(drawn.min(axis=0))
        lowest = Band(value=lowest.value, low=low_loss, high=high_loss)
    choices = tuple(
        Choice(
            bits=b, loss=values[i], best=None if share is None else share[i],
            inside=(n >= sizes[0] * (1 - 1e-9)) & (n <= sizes[1] * (1 + 1e-9)),
        )
        for i, (b, n) in enumerate(sized.items())
    )  # fmt: skip
    regions = _regions(widths, np.argmin(values, axis=0), memory)
    return Frontier(
        d_total=d_total, memory=memory, choices=choices, lowest=lowest,
        full_precision=predictor.law.predict(Inputs.of(n=memory * 8 / _FULL_BITS, d_total=d_total)), regions=regions,
        title=_title(regions, d_total), notes=_notes(predictor),
    )  # fmt: skip


def _regions(widths: Sequence[float], winner: NDArray[np.intp], memory: FloatArray) -> tuple[Region, ...]:
    edges = np.sqrt(memory[1:] * memory[:-1])
    cuts = np.flatnonzero(np.diff(winner))
    ends = [float(memory[0]), *edges[cuts].tolist(), float(memory[-1])]
    best = winner[[0, *(cuts + 1)]]
    return tuple(Region(bits=widths[i], low=a, high=b) for i, (a, b) in zip(best, pairwise(ends), strict=True))


def _title(regions: Sequence[Region], d_total: float) -> str:
    budget = f"with {format_count(d_total)} training tokens"
    if len(regions) == 1:
        return f"{bits_name(regions[0].bits)} has the lowest loss at every weight memory shown, {budget}"
    parts = [f"{bits_name(r.bits)} to {format_bytes(r.high, digits=2)}" for r in regions[:-1]]
    return f"Lowest loss {budget}: {', '.join(parts)}, {bits_name(regions[-1].bits)} above"


def _notes(predictor: Predictor) -> tuple[str, ...]:
    notes = [
        "Each line: loss at the best QAT fraction for the largest model whose weights fit, N · bits / 8 bytes. "
        "Thin and faint: that model lies outside the fitted range of sizes."
    ]
    if predictor.draws is not None:
        what = f"central {predictor.level:.0%} of the lowest loss over {len(predictor.draws)} draws of the fit"
        notes.append(f"Shaded: {what}.")
    return tuple(notes)


@applied()
def draw(series: Frontier) -> Figure:
    """Losses over the memory, the best bit width at each, and how sure that is."""
    heights = [2.5, 0.2, 0.95] if series.choices[0].best is not None else [2.5, 0.2]
    figure, grid = panel_grid(
        series.title, series.notes, rows=len(heights), panel=(4.3, 2.5), right=1.45, top=0.14, gaps=(0.1, 0.06),
        row_heights=heights,
    )  # fmt: skip
    spots = [row[0] for row in grid]
    low, high = float(series.memory[0]), float(series.memory[-1])
    for axes in spots:
        name = partial(format_bytes, digits=2)
        log_axis(axes, "x", low, high, name, most=8, base=2.0 if high / low < 3000 else 10.0)
        axes.tick_params(axis="x", labelbottom=axes is spots[-1])
    spots[-1].set_xlabel("Memory of the weights, N · bits / 8")
    _losses(spots[0], series)
    _strip(spots[1], series)
    if len(spots) > 2:
        _shares(spots[2], series)
    entries = [{**bits_look(c.bits).both, "label": bits_name(c.bits)} for c in series.choices]
    entries.append({**CONTROL, "label": "full precision\n(16 bits stored)"})
    legend(spots[0], [*entries, {"color": "0.8", "linewidth": 4.5, "label": "lowest loss"}])
    return figure


def _losses(axes: Axes, series: Frontier) -> None:
    # Models far outside the fitted range can lose so much that they would flatten what matters.
    lowest = series.lowest.value
    relevant = [c.loss[c.inside] for c in series.choices if c.inside.any()]
    top = max([float(np.quantile(v, 0.98)) for v in relevant] + [float(lowest.max())])
    pad = 0.05 * (top - float(lowest.min()))
    axes.set(ylim=(float(lowest.min()) - pad, top + pad), ylabel="Predicted loss (nats/token)")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.grid(axis="y")
    shade(axes, series.memory, series.lowest, "0.92", None, 0)
    axes.plot(series.memory, lowest, color="0.8", linewidth=4.5, zorder=1, solid_capstyle="round")
    axes.plot(series.memory, series.full_precision, **CONTROL, zorder=2)
    for choice in series.choices:
        look = bits_look(choice.bits)
        inside = np.where(choice.inside, choice.loss, np.nan)
        axes.plot(series.memory, choice.loss, **look.stroke, linewidth=0.5, alpha=0.6, zorder=2)
        marks = np.flatnonzero(choice.inside)
        every = marks[:: max(1, len(marks) // 4)].tolist()
        axes.plot(series.memory, inside, **look.both, markevery=every, zorder=3)


def _strip(axes: Axes, series: Frontier) -> None:
    axes.set(ylim=(0, 1), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.set_ylabel("best", rotation=0, ha="right", va="center")
    reach = np.log(series.memory[-1] / series.memory[0])
    for i, region in enumerate(series.regions):
        axes.axvspan(region.low, region.high, facecolor="0.93" if i % 2 else "0.84", linewidth=0)
        width = np.log(region.high / region.low) / reach
        if width > 0.045:
            label = bits_name(region.bits) if width > 0.11 else f"{region.bits:g}"
            axes.text(float(np.sqrt(region.low * region.high)), 0.48, label, ha="center", va="center", fontsize=6.5)


def _shares(axes: Axes, series: Frontier) -> None:
    axes.set(ylim=(-0.03, 1.03), yticks=[0, 0.5, 1], ylabel="Share of draws\nin which best")
    axes.grid(axis="y")
    for choice in series.choices:
        if choice.best is not None:
            axes.plot(series.memory, choice.best, **bits_look(choice.bits).both, markevery=24)
