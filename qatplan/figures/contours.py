"""Predicted loss over the tokens of the two phases, with the best split of every budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from qatplan.errors import UsageError
from qatplan.figures.axes import log_axis
from qatplan.figures.style import INK, applied, bits_name, legend, panel_grid
from qatplan.laws.inputs import Inputs
from qatplan.laws.predictor import Band, FloatArray, Predictor
from qatplan.units import format_count

_POINTS = 121
_BEST: dict[str, Any] = {"color": INK, "linewidth": 2.0}
_LEVEL: dict[str, Any] = {"color": "#3a3a3a", "linewidth": 0.6}
_BUDGET: dict[str, Any] = {"color": "#2f5d8a", "linewidth": 0.7, "linestyle": (0, (4, 3))}
_BACKING: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.75}
_RUN: dict[str, Any] = {
    "color": "#a03020", "linestyle": "none", "marker": "o", "markersize": 2.8, "markerfacecolor": "white",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Contours:
    """Everything `draw` needs. Arrays over the grid have shape (d_qat, d_fp)."""

    n: float
    bits: float
    d_fp: FloatArray
    d_qat: FloatArray
    loss: FloatArray
    """Nats per token; not a number where the law is singular."""
    levels: tuple[float, ...]
    budgets: FloatArray
    """D_total along the optimum's path."""
    optimum: Band
    """Optimal fraction at each budget."""
    measured: tuple[tuple[float, float], ...]
    """(D_fp, D_qat) of the runs at this size and bit width."""
    title: str
    notes: tuple[str, ...]


def contours(
    predictor: Predictor, *, n: float, bits: float, tokens: tuple[float, float],
    measured: Sequence[tuple[float, float]] = (),
) -> Contours:  # fmt: skip
    """The series for one size (parameters) and bit width; `tokens` is the lowest and highest D_total of interest.

    Raises UsageError for a law whose loss does not depend on the split.
    """
    if not predictor.law.sees_fraction:
        raise UsageError(
            f"the law {predictor.law.name} gives no loss that depends on the split; contours need a fit of qat-loss."
        )
    low, high = tokens
    if high < 4 * low:
        low, high = low / 2, high * 2
    d_fp = d_qat = np.geomspace(low / 30, 1.2 * high, _POINTS)
    fp, qat = np.meshgrid(d_fp, d_qat)
    loss = predictor.loss(Inputs.of(n=n, d_fp=fp.ravel(), d_qat=qat.ravel(), bits=bits)).value.reshape(fp.shape)
    budgets = np.geomspace(low / 3, high * 1.9, 81)
    best, band = predictor.optimum(n=n, d_total=budgets, bits=bits)
    first, last = (float(best.fraction[np.argmin(np.abs(budgets - b))]) for b in (low, high))
    note = f"Solid contours: predicted loss in nats per token (law {predictor.law.name}). Dashed: equal total tokens."
    if predictor.draws is not None:
        note += f" Shaded: central {predictor.level:.0%} of the optimum over {len(predictor.draws)} draws."
    return Contours(
        n=n,
        bits=bits,
        d_fp=d_fp,
        d_qat=d_qat,
        loss=loss,
        levels=_levels(loss, fp + qat, low),
        budgets=budgets,
        optimum=band,
        measured=tuple((f, q) for f, q in measured if f > 0 and q > 0),
        title=(
            f"{bits_name(bits)}, N = {format_count(n)}: best QAT fraction {first:.2f} at {format_count(low)} tokens, "
            f"{last:.2f} at {format_count(high)}"
        ),
        notes=(note,),
    )


def _levels(loss: FloatArray, total: NDArray[np.float64], least: float) -> tuple[float, ...]:
    """About nine round loss levels, denser near the lowest loss, ignoring the steep region of tiny budgets."""
    values = loss[np.isfinite(loss) & (total >= least / 3)]
    low, high = float(values.min()), float(np.quantile(values, 0.9))
    step = (high - low) / 9
    power = 10.0 ** np.floor(np.log10(step))
    step = min((m * power for m in (1, 2, 2.5, 5, 10) if m * power >= step), default=10 * power)
    return tuple(float(np.round(v, 6)) for v in np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step)


@applied()
def draw(series: Contours) -> Figure:
    """Loss over the tokens of both phases, lines of equal budgets, and the best split of each."""
    figure, [[axes]] = panel_grid(series.title, series.notes, panel=(3.9, 3.7), right=1.4, top=0.14)
    low, high = float(series.d_fp[0]), float(series.d_fp[-1])
    for which in "xy":
        log_axis(axes, which, low, high, format_count)
    axes.set(xlabel="Full-precision tokens D_fp", ylabel="QAT tokens D_qat")
    _budgets(axes, low, high)
    _loss(axes, series)
    _path(axes, series)
    named = {"best split": _BEST, "equal loss\n(nats/token)": _LEVEL, "equal D_total\n(tokens)": _BUDGET}
    named |= {"measured runs": _RUN} if series.measured else {}
    legend(axes, [{**look, "label": label} for label, look in named.items()])
    return figure


def _loss(axes: Axes, series: Contours) -> None:
    if not series.levels:
        return
    finite = np.ma.masked_invalid(series.loss)
    # Grey by rank of the level: light where loss is low, so that the path and its labels stay legible.
    shades = np.linspace(0.98, 0.72, len(series.levels) + 1)
    axes.contourf(
        series.d_fp, series.d_qat, finite, levels=[-np.inf, *series.levels, np.inf],
        colors=[str(round(float(s), 4)) for s in shades], zorder=0,
    )  # fmt: skip
    style = {"colors": _LEVEL["color"], "linewidths": _LEVEL["linewidth"]}
    lines = axes.contour(series.d_fp, series.d_qat, finite, levels=list(series.levels), **style, zorder=1)
    digits = max(2, *(len(f"{v:g}".partition(".")[2]) for v in series.levels))
    axes.clabel(lines, fmt=f"%.{digits}f", fontsize=6, inline=True, inline_spacing=2)


def _budgets(axes: Axes, low: float, high: float) -> None:
    first, last = int(np.ceil(np.log10(low * 2))), int(np.floor(np.log10(high * 2)))
    steps = (1.0, 3.0) if last - first < 3 else (1.0,)
    for total in (m * 10.0**d for d in range(first - 1, last + 1) for m in steps):
        if not 2.2 * low < total < 1.9 * high:
            continue
        share = 1 / (1 + np.exp(-np.linspace(-18, 18, 401)))
        axes.plot(total * (1 - share), total * share, **_BUDGET, zorder=2)
        # Labels sit where a line meets the lower edge, or the right edge for the largest budgets.
        below = total < high
        spot, shift, side = ((total - low, low), 0, "center") if below else ((high, total - high), -2, "right")
        if spot[1] >= low:
            axes.annotate(
                format_count(total), spot, xytext=(shift, 2), textcoords="offset points", ha=side, va="bottom",
                fontsize=6, color=_BUDGET["color"], bbox=_BACKING, zorder=5,
            )  # fmt: skip


def _path(axes: Axes, series: Contours) -> None:
    f = series.optimum
    inside = (series.budgets * f.value >= series.d_qat[0]) & (series.budgets * (1 - f.value) <= series.d_fp[-1])
    b = series.budgets[inside]
    if f.low is not None and f.high is not None:
        lower, upper = f.low[inside], f.high[inside]
        axes.fill(
            np.concatenate([b * (1 - lower), (b * (1 - upper))[::-1]]),
            np.concatenate([b * lower, (b * upper)[::-1]]),
            color=INK, alpha=0.18, linewidth=0, zorder=3,
        )  # fmt: skip
    axes.plot(b * (1 - f.value[inside]), b * f.value[inside], **_BEST, zorder=4)
    if series.measured:
        fp, qat = np.array(series.measured).T
        axes.plot(fp, qat, **_RUN, zorder=5)
