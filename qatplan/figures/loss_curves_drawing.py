"""Draws `LossCurves`: small panels, log-odds fractions with 0 and 1 apart, the control as a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from qatplan.figures.axes import FractionScale
from qatplan.figures.loss_curves import Curve, LossCurves, Panel
from qatplan.figures.measured import POST_TRAINING
from qatplan.figures.style import (
    FAINT,
    FULL_PRECISION,
    INK,
    Look,
    applied,
    bits_name,
    ordered_looks,
    panel_grid,
)
from qatplan.units import format_count

_CLASSIC = ("classic", "")


def draw(series: LossCurves) -> Figure:
    """The figure; nothing global is touched."""
    with applied():
        return _draw(series)


def _draw(series: LossCurves) -> Figure:
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
        keys = _keys(curves)
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
    if len(series.rows) == 1 and len(series.rows[0]) > 3:
        panels = list(series.rows[0])
        columns = 3 if len(panels) != 4 else 2
        return [panels[i : i + columns] for i in range(0, len(panels), columns)]
    return [list(row) for row in series.rows]


@dataclass(frozen=True, kw_only=True)
class _Key:
    """What a legend line stands for: sizes and budgets share a look over bit widths."""

    n: float
    d_total: float


def _keys(curves: Sequence[Curve]) -> dict[_Key, Look]:
    keys = sorted({_Key(n=c.n, d_total=c.d_total) for c in curves}, key=lambda k: (k.n, k.d_total))
    return dict(zip(keys, ordered_looks(len(keys)), strict=True))


def _panel(axes: Axes, panel: Panel, scale: FractionScale, keys: dict[_Key, Look], short: bool) -> None:
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
        look = keys[_Key(n=curve.n, d_total=curve.d_total)]
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
        axes.plot(x[part], y[part], linestyle="none", marker=look.marker, markersize=size, color=look.color,
                  markerfacecolor=fill, zorder=4, clip_on=False)  # fmt: skip
    if curve.fitted is not None:
        if main:
            _fitted(axes, curve, look, scale)
    else:
        inner = np.array([0.0 < p.fraction < 1.0 for p in finished], dtype=bool)
        weight = (1.1 if solid else 0.7) if main else 0.4
        axes.plot(x[inner], y[inner], linestyle=look.line, color=look.color, linewidth=weight, zorder=2)
        # A hairline bridges the break to the set-apart ends: they belong to the curve, at no distance on this scale.
        for end, near in ((0, 1), (-1, -2)):
            if len(finished) > 1 and not inner[end] and inner[near]:
                axes.plot(x[[end, near]], y[[end, near]], color=look.color, linewidth=0.45, alpha=0.7, zorder=1)
    minimum = curve.minimum
    if minimum is not None and main and minimum.loss is not None and minimum.loss <= top:
        axes.plot(
            scale.positions([minimum.fraction]),
            [minimum.loss],
            marker="o",
            markersize=7.5,
            linestyle="none",
            markerfacecolor="none",
            markeredgecolor=INK,
            markeredgewidth=0.8,
            zorder=5,
            clip_on=False,
        )
    diverged = scale.positions([p.fraction for p in curve.points if p.loss is None])
    axes.plot(diverged, np.full(len(diverged), top), linestyle="none", marker="x", color=look.color, markersize=4.5,
              markeredgewidth=1.1, zorder=6, clip_on=False)  # fmt: skip
    return [(float(a), float(b)) for a, b in zip(x[~inside], y[~inside], strict=True)]


def _fitted(axes: Axes, curve: Curve, look: Look, scale: FractionScale) -> None:
    fit = curve.fitted
    if fit is None:
        return
    x = scale.positions(fit.fraction)
    axes.plot(x, fit.loss.value, linestyle=look.line, color=look.color, zorder=2)
    if fit.loss.low is not None and fit.loss.high is not None:
        axes.fill_between(x, fit.loss.low, fit.loss.high, color=look.color, alpha=0.18, linewidth=0, zorder=1)
    if fit.optimum is not None and fit.optimum_loss is not None and scale.low <= fit.optimum <= scale.high:
        axes.plot(scale.positions([fit.optimum]), [fit.optimum_loss], marker="|", markersize=8, color=INK,
                  markeredgewidth=1.0, linestyle="none", zorder=5)  # fmt: skip


def _controls(axes: Axes, panel: Panel, keys: dict[_Key, Look]) -> None:
    low = axes.get_ylim()[0]
    shown: dict[_Key, float] = {}
    for curve in panel.curves:
        if curve.control is not None:
            shown.setdefault(_Key(n=curve.n, d_total=curve.d_total), curve.control)
    below = []
    for key, value in shown.items():
        if value < low:
            below.append(value)
            continue
        axes.axhline(value, color=FULL_PRECISION, linewidth=0.7, linestyle=(0, (5, 3)), zorder=1)
        # The budget's own marker sits on its control line, so that several lines can be told apart.
        axes.plot(
            [1.0],
            [value],
            transform=axes.get_yaxis_transform(),
            marker=keys[key].marker,
            markersize=3,
            color=keys[key].color,
            markerfacecolor="white",
            linestyle="none",
            clip_on=False,
            zorder=4,
        )
    if below:
        span = f"{min(below):.3f}" if len(below) == 1 else f"{min(below):.3f} to {max(below):.3f}"
        axes.text(0.03, 0.015, f"full precision {span} ↓", transform=axes.transAxes, ha="left", va="bottom",
                  fontsize=6, color=FULL_PRECISION)  # fmt: skip


def _overflow(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    top = axes.get_ylim()[1]
    by_place: dict[float, list[float]] = {}
    for place, loss in points:
        by_place.setdefault(round(place, 6), []).append(loss)
    for place in by_place:
        axes.plot([place], [top], marker="^", color=INK, markersize=3.5, linestyle="none", clip_on=False, zorder=6)
    if not by_place:
        return
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
    caps, lowest, highest = [], [], []
    for curve in curves:
        inner = [p.loss for p in curve.points if p.loss is not None and 0.0 < p.fraction < 1.0]
        every = [p.loss for p in curve.points if p.loss is not None]
        if not every:
            continue
        base = inner if len(inner) >= 2 else every
        lowest.append(min(every))
        highest.append(max(every))
        caps.append(min(every) + 5 * (float(np.median(base)) - min(every)))
    if not lowest:
        controls = [c.control for c in curves if c.control is not None]
        middle = controls[0] if controls else 1.0
        return middle - 0.05 * middle, middle + 0.05 * middle
    low = min(lowest)
    high = max(min(a, max(b, low)) for a, b in zip(highest, caps, strict=True))
    least = 0.015 * max(low, 0.2) - (high - low)
    if least > 0:
        low, high = low - least / 2, high + least / 2
    near = [c.control for c in curves if c.control is not None and c.control >= low - 1.5 * (high - low)]
    low = min([low, *near])
    return low - 0.06 * (high - low), high + 0.08 * (high - low)


def _row_legend(axes: Axes, keys: dict[_Key, Look], series: LossCurves, with_guide: bool) -> None:
    many_sizes = len({k.n for k in keys}) > 1
    fitted = any(c.fitted is not None for c in series.curves)
    handles: list[Line2D] = []
    for key, look in keys.items():
        label = f"D_total {format_count(key.d_total)}"
        if many_sizes:
            label = f"N {format_count(key.n)}, {label}"
        handles.append(Line2D([], [], color=look.color, marker=look.marker, linestyle=look.line, label=label))
    guide: list[Line2D] = []
    # Models that were only rounded are a curve without a schedule, and never hollow.
    names = sorted({c.schedule for c in series.curves} - {*_CLASSIC, POST_TRAINING})
    if names:
        # Several names take a line of their own: the margin is as wide as one budget's label.
        label = " ".join([*names, "(hollow)"]) if len(names) == 1 else f"{', '.join(names)}\n(hollow)"
        guide.append(Line2D([], [], color=FAINT, marker="o", markerfacecolor="white", linewidth=0.7, label=label))
    if any(c.control is not None for c in series.curves):
        guide.append(Line2D([], [], color=FULL_PRECISION, linewidth=0.7, linestyle=(0, (5, 3)), label="full precision"))
    if any(c.minimum is not None for c in series.curves):
        guide.append(Line2D([], [], marker="o", markersize=7.5, markerfacecolor="none", markeredgecolor=INK,
                            linestyle="none", label="lowest point"))  # fmt: skip
    if fitted:
        guide.append(Line2D([], [], marker="|", markersize=8, color=INK, linestyle="none", label="fitted optimum"))
    axes.legend(handles=handles + (guide if with_guide else []), loc="upper left", bbox_to_anchor=(1.03, 1.02))
