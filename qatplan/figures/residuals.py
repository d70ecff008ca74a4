"""What a fitted law leaves unexplained, against everything it should explain: size, tokens, bits, fraction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from qatplan.errors import DataError
from qatplan.figures.axes import FractionScale, log_axis, padded_log
from qatplan.figures.measured import Run
from qatplan.figures.style import INK, applied, bits_look, bits_name, legend, panel_grid
from qatplan.laws.inputs import Inputs
from qatplan.laws.predictor import FloatArray, Predictor
from qatplan.units import format_count

_POINT: dict[str, Any] = {"markersize": 3, "markerfacecolor": "none"}


@dataclass(frozen=True, kw_only=True)
class Residual:
    """One run: measured over predicted loss, as a logarithm in percent."""

    n: float
    d_total: float
    fraction: float
    bits: float
    """Not a number for full precision."""
    percent: float
    """100 * ln(measured / predicted)."""


@dataclass(frozen=True, kw_only=True)
class Residuals:
    """Everything `draw` needs."""

    points: tuple[Residual, ...]
    noise: float | None
    """Standard deviation of the fit's log residuals, in percent."""
    title: str
    notes: tuple[str, ...]


def residuals(runs: Sequence[Run], predictor: Predictor, noise: float | None = None) -> Residuals:
    """The series from runs and a law; `noise` is the standard deviation of log residuals that the fit records.

    Diverged runs and runs outside the law's domain are left out and counted. Raises DataError when none is left.
    """
    finished = [r for r in runs if r.loss is not None]
    if not finished:
        raise DataError("no run has a loss, so there are no residuals to draw.")
    x = Inputs.of(
        n=[r.n for r in finished],
        d_fp=[r.d_total * (1 - r.fraction) for r in finished],
        d_qat=[r.d_total * r.fraction for r in finished],
        bits=[np.nan if r.bits is None else r.bits for r in finished],
    )
    predicted = predictor.loss(x).value
    points = tuple(
        Residual(
            n=r.n, d_total=r.d_total, fraction=r.fraction, bits=np.nan if r.bits is None else r.bits,
            percent=100 * float(np.log((r.loss or np.nan) / p)),
        )
        for r, p in zip(finished, predicted, strict=True)
        if np.isfinite(p)
    )  # fmt: skip
    if not points:
        raise DataError("every run lies outside the law's domain, so there are no residuals to draw.")
    size = np.abs([p.percent for p in points])
    notes = ["Residual: 100 · ln(measured / predicted loss), one point per run."]
    noise = None if noise is None or not np.isfinite(noise) else 100 * noise
    if noise is not None:
        notes[0] += " Shaded: ± 2 standard deviations as the fit records them."
    left_out = len(runs) - len(points)
    if left_out:
        notes.append(f"{left_out} of {len(runs)} runs are not shown: diverged, or where the law has no finite value.")
    return Residuals(
        points=points,
        noise=noise,
        title=f"Law {predictor.law.name}: median absolute residual {np.median(size):.2g} %, "
        f"largest {size.max():.2g} %, {len(points)} runs",
        notes=tuple(notes),
    )


@applied()
def draw(series: Residuals) -> Figure:
    """A panel for each thing that the law should explain."""
    figure, grid = panel_grid(
        series.title, series.notes, rows=2, columns=2, panel=(2.55, 1.6), gaps=(0.25, 0.55), right=1.15, top=0.14
    )
    limit = 1.12 * max([abs(p.percent) for p in series.points] + [2.2 * (series.noise or 0.0), 0.01])
    spots = [axes for row in grid for axes in row]
    for axes in spots:
        axes.set_ylim(-limit, limit)
        axes.grid(axis="y")
        axes.axhline(0, color=INK, linewidth=0.7, zorder=2)
        if series.noise is not None:
            axes.axhspan(-2 * series.noise, 2 * series.noise, color="0.93", zorder=0, linewidth=0)
    for row in grid:
        row[0].set_ylabel("Residual (%)")
        row[1].set_yticklabels([])
    bits, percent = np.array([p.bits for p in series.points]), np.array([p.percent for p in series.points])
    groups = {b: np.isnan(bits) if np.isnan(b) else bits == b for b in np.unique(bits).tolist()}
    for axes, x in zip(spots, _places(spots, series, list(groups.values()), percent), strict=True):
        for b, mine in groups.items():
            axes.plot(
                x[mine],
                percent[mine],
                **bits_look(b).points,
                markersize=3,
                markerfacecolor="none",
                markeredgewidth=0.6,
                zorder=3,
            )
    spots[3].set_xlim(-0.6, len(groups) - 0.4)
    spots[3].xaxis.set_ticks(range(len(groups)), labels=["full" if np.isnan(b) else f"{b:g}" for b in groups])
    legend(spots[1], [{**bits_look(b).points, **_POINT, "markersize": 3.4, "label": bits_name(b)} for b in groups])
    return figure


def _places(
    spots: Sequence[Axes], series: Residuals, groups: Sequence[NDArray[np.bool_]], percent: FloatArray
) -> Iterator[FloatArray]:
    """Where the points lie on the horizontal axis of each panel, which is made for them."""
    yield _logarithmic(spots[0], np.array([p.n for p in series.points]), "Parameters N")
    yield _logarithmic(spots[1], np.array([p.d_total for p in series.points]), "Total tokens D_total")
    fractions = [p.fraction for p in series.points]
    scale = FractionScale.spanning(fractions)
    scale.apply(spots[2])
    spots[2].set_xlabel("QAT fraction f = D_qat / D_total")
    yield scale.positions(fractions)
    x = np.empty(len(percent))
    for i, mine in enumerate(groups):
        # Points of a bit width are spread evenly in their order, which is reproducible where jitter is not.
        x[mine] = i + 0.5 * ((np.arange(mine.sum()) + 0.5) / mine.sum() - 0.5)
        spots[3].plot([i - 0.36, i + 0.36], [float(np.median(percent[mine]))] * 2, color=INK, linewidth=1.6, zorder=4)
    spots[3].set_xlabel("Bits per weight (bar: median)")
    yield x


def _logarithmic(axes: Axes, x: FloatArray, label: str) -> FloatArray:
    low, high = padded_log(x, least=0.25)
    log_axis(axes, "x", low, high, format_count, most=5)
    values = np.unique(x)
    if len(values) <= 6 and all(b / a > (high / low) ** 0.12 for a, b in pairwise(values)):
        # A few well separated values are better ticks than round numbers between them.
        axes.xaxis.set_ticks(values.tolist(), labels=[format_count(v) for v in values.tolist()])
    axes.set_xlabel(label)
    return x
