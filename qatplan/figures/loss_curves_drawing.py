"""Draws `LossCurves`: small panels, log-odds fractions with 0 and 1 apart, the control as a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from qatplan.figures.axes import FractionScale, shade
from qatplan.figures.loss_curves import Curve, LossCurves, Panel
from qatplan.figures.measured import POST_TRAINING
from qatplan.figures.style import (
    FAINT,
    FULL_PRECISION,
    INK,
    Look,
    applied,
    bits_name,
    legend,
    ordered_looks,
    panel_grid,
)
from qatplan.laws.predictor import FittedCurve
from qatplan.units import format_count

_CLASSIC = ("classic", "")
_CONTROL: dict[str, Any] = {"color": FULL_PRECISION, "linewidth": 0.7, "linestyle": (0, (5, 3))}
_LOWEST: dict[str, Any] = {
    "marker": "o", "markersize": 7.5, "linestyle": "none", "markerfacecolor": "none", "markeredgecolor": INK,
}  # fmt: skip
_OPTIMUM: dict[str, Any] = {"marker": "|", "markersize": 8, "color": INK, "linestyle": "none"}
_Keys = dict[tuple[float, float], Look]
"""A look for every (N, D_total), shared by the panels of all bit widths."""


@applied()
def draw(series: LossCurves) -> Figure:
    """A panel for each `Panel`, a legend for each row of them."""
    rows = _wrapped(series)
    columns = max(len(row) for row in rows)
    measured = [p.fraction for c in series.curves for p in c.points]
    fitted = [f for c in series.curves if c.fitted is not None for f in c.fitted.fraction[[0, -1]]]
    scale = FractionScale.spanning([*measured, *fitted])
    width = {1: 3.6, 2: 2.3, 3: 1.6}.get(columns, 1.25)
    height = {1: 2.2, 2: 1.6}.get(len(rows), 1.25)
    wrapped = len(rows) != len(series.rows)
    many_sizes = any(panel is not None and panel.n is None for row in rows for panel in row)
    figure, grid = panel_grid(
        series.title, series.notes, rows=len(rows), columns=columns, panel=(width, height), gaps=(0.42, 0.42),
        left=0.72 if series.relative else 0.55, right=1.75 if many_sizes else 1.25,
    )  # fmt: skip
    for i, row in enumerate(rows):
        curves = series.curves if wrapped else [c for panel in row if panel is not None for c in panel.curves]
        budgets = sorted({(c.n, c.d_total) for c in curves})
        keys = dict(zip(budgets, ordered_looks(len(budgets)), strict=True))
        for j, axes in enumerate(grid[i]):
            panel = row[j] if j < len(row) else None
            if panel is None:
                axes.set_axis_off()
                continue
            _panel(axes, panel, scale, keys, short=width < 2.0)
            if j == 0:
                axes.set_ylabel(_loss_label(series, height))
            if not any(j < len(r) and r[j] is not None for r in rows[i + 1 :]):
                axes.set_xlabel("QAT fraction f = D_qat / D_total" if width > 1.5 else "QAT fraction f")
        if i == 0 or not wrapped:
            _row_legend(grid[i][-1], keys, series, with_guide=i == 0)
    return figure


def _loss_label(series: LossCurves, height: float) -> str:
    if series.relative:
        return "Loss above full precision\n(nats/token)"
    return "Validation loss (nats/token)" if height > 1.5 else "Loss (nats/token)"


def _wrapped(series: LossCurves) -> list[list[Panel | None]]:
    """A single long row breaks into rows of at most three panels."""
    (first, *others) = rows = [list(row) for row in series.rows]
    columns = 2 if len(first) == 4 else 3
    return rows if others else [first[i : i + columns] for i in range(0, len(first), columns)]


def _panel(axes: Axes, panel: Panel, scale: FractionScale, keys: _Keys, short: bool) -> None:
    low, high = loss_limits(panel.curves)
    axes.set_ylim(low, high)
    scale.apply(axes, short=short)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axes.grid(axis="y")
    name = bits_name(panel.bits)
    axes.set_title(name if panel.n is None else f"{name}, N = {format_count(panel.n)}", fontsize=7.5, pad=9)
    seeds = {(c.n, c.d_total, c.schedule, c.variant): c.seed for c in reversed(panel.curves)}
    overflow: list[tuple[float, float]] = []
    for curve in panel.curves:
        look = keys[curve.n, curve.d_total]
        main = seeds[curve.n, curve.d_total, curve.schedule, curve.variant] == curve.seed
        overflow += _curve(axes, curve, look, scale, main)
    _controls(axes, panel, keys)
    _overflow(axes, overflow)


def _curve(axes: Axes, curve: Curve, look: Look, scale: FractionScale, main: bool) -> list[tuple[float, float]]:
    """Draw one curve; returns (position, loss) of its points above the upper limit."""
    top = axes.get_ylim()[1]
    solid = curve.schedule in _CLASSIC
    finished = [p for p in curve.points if p.loss is not None]
    faint = [(p.fraction, p.loss) for p in curve.beaten if p.loss is not None and p.loss <= top]
    axes.plot(scale.positions([f for f, _ in faint]), [loss for _, loss in faint], linestyle="none", marker=".",
              markersize=2.5, color=look.color, alpha=0.55, zorder=2)  # fmt: skip
    x = scale.positions([p.fraction for p in finished])
    y = np.array([p.loss for p in finished], dtype=float)
    inside = y <= top
    face = look.color if solid else "white"
    size = 3.6 if main else 2.2
    rounded = np.array([p.fraction == 0.0 for p in finished], dtype=bool)
    for part, fill in ((inside & ~rounded, face), (inside & rounded, look.color)):
        # A rounded model belongs to no schedule, so it is never hollow.
        axes.plot(x[part], y[part], **look.points, markersize=size, markerfacecolor=fill, zorder=4, clip_on=False)
    if curve.fitted is None:
        inner = np.array([0.0 < p.fraction < 1.0 for p in finished], dtype=bool)
        weight = (1.1 if solid else 0.7) if main else 0.4
        axes.plot(x[inner], y[inner], **look.stroke, linewidth=weight, zorder=2)
        # A hairline bridges the break to the set-apart ends: they belong to the curve, at no distance on this scale.
        for end, near in ((0, 1), (-1, -2)):
            if len(finished) > 1 and not inner[end] and inner[near]:
                axes.plot(x[[end, near]], y[[end, near]], color=look.color, linewidth=0.45, alpha=0.7, zorder=1)
    elif main:
        _fitted(axes, curve.fitted, look, scale)
    minimum = curve.minimum
    if minimum is not None and main and minimum.loss is not None and minimum.loss <= top:
        place = scale.positions([minimum.fraction])
        axes.plot(place, [minimum.loss], **_LOWEST, markeredgewidth=0.8, zorder=5, clip_on=False)
    diverged = scale.positions([p.fraction for p in curve.points if p.loss is None])
    axes.plot(diverged, np.full(len(diverged), top), linestyle="none", marker="x", color=look.color, markersize=4.5,
              markeredgewidth=1.1, zorder=6, clip_on=False)  # fmt: skip
    return [(float(a), float(b)) for a, b in zip(x[~inside], y[~inside], strict=True)]


def _fitted(axes: Axes, fit: FittedCurve, look: Look, scale: FractionScale) -> None:
    x = scale.positions(fit.fraction)
    axes.plot(x, fit.loss.value, **look.stroke, zorder=2)
    shade(axes, x, fit.loss, look.color, 0.18, 1)
    if fit.optimum is not None and fit.optimum_loss is not None and scale.low <= fit.optimum <= scale.high:
        axes.plot(scale.positions([fit.optimum]), [fit.optimum_loss], **_OPTIMUM, markeredgewidth=1.0, zorder=5)


def _controls(axes: Axes, panel: Panel, keys: _Keys) -> None:
    low, edge = axes.get_ylim()[0], axes.get_yaxis_transform()
    # The first curve of a size and budget has the control of its seed.
    shown = {(c.n, c.d_total): c.control for c in reversed(panel.curves) if c.control is not None}
    for key, value in shown.items():
        if value >= low:
            axes.axhline(value, **_CONTROL, zorder=1)
            # The budget's own marker sits on its control line, so that several lines can be told apart.
            axes.plot([1.0], [value], transform=edge, **keys[key].points, markersize=3, markerfacecolor="white",
                      clip_on=False, zorder=4)  # fmt: skip
    if below := [value for value in shown.values() if value < low]:
        span = f"{min(below):.3f}" if len(below) == 1 else f"{min(below):.3f} to {max(below):.3f}"
        axes.text(0.03, 0.015, f"full precision {span} ↓", transform=axes.transAxes, ha="left", va="bottom",
                  fontsize=6, color=FULL_PRECISION)  # fmt: skip


def _overflow(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    if not points:
        return
    top = axes.get_ylim()[1]
    by_place: dict[float, list[float]] = {}
    for place, loss in points:
        by_place.setdefault(round(place, 6), []).append(loss)
    axes.plot([*by_place], [top] * len(by_place), marker="^", color=INK, markersize=3.5, linestyle="none",
              clip_on=False, zorder=6)  # fmt: skip
    # One label says how far the highest lies; the carets show where the others are.
    place = max(by_place, key=lambda spot: max(by_place[spot]))
    losses = by_place[place]
    label = "–".join(dict.fromkeys(f"{loss:.2f}" for loss in (min(losses), max(losses))))
    on_left = place < sum(axes.get_xlim()) / 2
    axes.annotate(label, (place, top), xytext=(4 if on_left else -4, 1.5), textcoords="offset points",
                  ha="left" if on_left else "right", va="bottom", fontsize=5.5, color=INK)  # fmt: skip


def loss_limits(curves: Sequence[Curve]) -> tuple[float, float]:
    """Limits of the loss axis that show the region around the minima.

    Rounded or briefly trained models can lose several nats more; a curve is cut five times as far above its lowest
    point as its median interior point lies. Controls are included unless more than 1.5 spans below.
    """
    controls = [c.control for c in curves if c.control is not None]
    finished = [losses for c in curves if (losses := [p.loss for p in c.points if p.loss is not None])]
    if not finished:
        middle = controls[0] if controls else 1.0
        return middle - 0.05 * middle, middle + 0.05 * middle
    low = high = min(map(min, finished))
    for curve in curves:
        every = [p.loss for p in curve.points if p.loss is not None]
        inner = [p.loss for p in curve.points if p.loss is not None and 0.0 < p.fraction < 1.0]
        if every:
            middle = float(np.median(inner if len(inner) >= 2 else every))
            high = max(high, min(max(every), min(every) + 5 * (middle - min(every))))
    least = 0.015 * max(low, 0.2) - (high - low)
    if least > 0:
        low, high = low - least / 2, high + least / 2
    near = [control for control in controls if control >= low - 1.5 * (high - low)]
    low = min([low, *near])
    return low - 0.06 * (high - low), high + 0.08 * (high - low)


def _row_legend(axes: Axes, keys: _Keys, series: LossCurves, with_guide: bool) -> None:
    many_sizes = len({n for n, _ in keys}) > 1
    entries: list[dict[str, Any]] = []
    for (n, d_total), look in keys.items():
        label = f"D_total {format_count(d_total)}"
        entries.append({**look.both, "label": f"N {format_count(n)}, {label}" if many_sizes else label})
    legend(axes, entries + (_guide(series) if with_guide else []))


def _guide(series: LossCurves) -> list[dict[str, Any]]:
    """What is drawn besides the curves."""
    guide: list[dict[str, Any]] = []
    # Models that were only rounded are a curve without a schedule, and never hollow.
    names = sorted({c.schedule for c in series.curves} - {*_CLASSIC, POST_TRAINING})
    if names:
        # Several names take a line of their own: the margin is as wide as one budget's label.
        label = f"{', '.join(names)}{' ' if len(names) == 1 else chr(10)}(hollow)"
        guide.append({"color": FAINT, "marker": "o", "markerfacecolor": "white", "linewidth": 0.7, "label": label})
    if any(c.control is not None for c in series.curves):
        guide.append({**_CONTROL, "label": "full precision"})
    if any(c.minimum is not None for c in series.curves):
        guide.append({**_LOWEST, "label": "lowest point"})
    if any(c.fitted is not None for c in series.curves):
        guide.append({**_OPTIMUM, "label": "fitted optimum"})
    return guide
