"""What a split costs: measured curves above their minimum against the QAT fraction, and what a fraction law chose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qatplan.errors import DataError, UsageError
from qatplan.figures.axes import FractionScale
from qatplan.figures.measured import Run, about, best, group, same_budgets
from qatplan.figures.style import FULL_PRECISION, INK, applied, bits_look, bits_name, panel_grid
from qatplan.fitting.split.regret import excess
from qatplan.laws.fit_parts import CurveRecord, FractionDiagnostics
from qatplan.laws.fitted import FittedLaw
from qatplan.laws.predictor import FloatArray
from qatplan.runs.schema import CONTROL_BITS

_COLUMNS = 3
_CONTROL: dict[str, Any] = {"color": FULL_PRECISION, "linestyle": (0, (5, 2)), "linewidth": 0.8}
_RULE = 0.1
_TOP = 80.0
"""Thousandths of a nat; what costs more is cut off at the top."""


@dataclass(frozen=True, kw_only=True)
class SplitCurve:
    """One measured curve and the fraction that the law chooses for it."""

    n: float
    d_total: float
    fractions: FloatArray
    above: FloatArray
    """Thousandths of a nat above the curve's lowest loss."""
    chosen: float
    chosen_above: float


@dataclass(frozen=True, kw_only=True)
class ControlCurve:
    """A curve of second phases in full precision: what the schedule does without any quantization."""

    n: float
    d_total: float
    fractions: FloatArray
    above: FloatArray
    """Thousandths of a nat above the curve's lowest loss."""


@dataclass(frozen=True, kw_only=True)
class SplitFigure:
    """Everything `draw` needs."""

    panels: tuple[tuple[float, tuple[SplitCurve, ...]], ...]
    """Per bit width its curves, the smallest budget first."""
    controls: tuple[ControlCurve, ...]
    title: str
    notes: tuple[str, ...]


def split_figure(
    fitted: FittedLaw, *, bits: tuple[float, ...] | None = None, params: float | None = None, runs: Sequence[Run] = ()
) -> SplitFigure:
    """The curves that a fit of a fraction law keeps, of the bit widths and the size asked for.

    `runs` of 16 bits, second phases in full precision, are shown beside the curves of their size and tokens.
    Raises UsageError for a fit without curves and DataError where none is left.
    """
    found = fitted.diagnostics
    known = [c for c in found.curves if c.fractions and c.losses] if isinstance(found, FractionDiagnostics) else []
    if not known:
        raise UsageError("a split figure shows the curves of a fit of fraction-surface; this fit keeps none.")
    kept = [c for c in known if (bits is None or c.bits in bits) and (params is None or abs(c.n / params - 1) < 0.05)]
    if not kept:
        raise DataError("the fit keeps no curve of these bit widths and this size.")
    widths = sorted({c.bits for c in kept})
    panels = tuple(
        (b, tuple(_curve(c) for c in sorted(kept, key=lambda c: (c.d_total, c.n)) if c.bits == b)) for b in widths
    )
    controls = tuple(control for control in _controls(runs) if any(_beside(control, c.n, c.d_total) for c in kept))
    costs = [curve.chosen_above for _, curves in panels for curve in curves]
    return SplitFigure(
        panels=panels,
        controls=controls,
        title=f"On the {len(costs)} curves that it was fitted to, the splits of {fitted.law.name} cost "
        f"{np.mean(costs):.1f} thousandths of a nat, {max(costs):.0f} at worst",
        notes=(
            "Each line is a measured curve above its own lowest loss, darker for larger budgets. Points: the fraction "
            "that the law chooses. Dotted: a fixed 10 %.",
            *(["Grey, dashed: the same second phase in full precision."] if controls else ()),
        ),
    )


def _controls(runs: Sequence[Run]) -> list[ControlCurve]:
    """The best loss of every fraction, for each size and number of tokens with at least two fractions."""
    phases = [r for r in runs if r.bits == CONTROL_BITS and r.loss is not None]
    found = []
    for (n, d_total), same in group(same_budgets(phases), lambda run: (run.n, run.d_total)).items():
        by_fraction = group(same, lambda run: round(run.fraction, 3))
        if len(by_fraction) < 2:
            continue
        fractions = np.array(sorted(by_fraction))
        losses = np.array([best(by_fraction[f]).loss for f in fractions], dtype=np.float64)
        found.append(ControlCurve(n=n, d_total=d_total, fractions=fractions, above=1e3 * (losses - losses.min())))
    return found


def _beside(control: ControlCurve, n: float, d_total: float) -> bool:
    return about(n, control.n) and about(d_total, control.d_total)


def _curve(curve: CurveRecord) -> SplitCurve:
    fractions, losses = np.array(curve.fractions), np.array(curve.losses)
    chosen = float(np.clip(curve.refitted_law or math.nan, fractions[0], fractions[-1]))
    return SplitCurve(
        n=curve.n, d_total=curve.d_total, fractions=fractions, above=1e3 * (losses - losses.min()), chosen=chosen,
        chosen_above=1e3 * float(excess(fractions, losses, chosen)),
    )  # fmt: skip


@applied()
def draw(series: SplitFigure) -> Figure:
    """A panel for each bit width; all share their axes."""
    columns = min(len(series.panels), _COLUMNS)
    rows = math.ceil(len(series.panels) / columns)
    figure, grid = panel_grid(
        series.title, series.notes, rows=rows, columns=columns, panel=(2.1, 1.6), gaps=(0.45, 0.65), right=0.2
    )
    places = [axes for row in grid for axes in row]
    every = [curve for _, curves in series.panels for curve in curves]
    measured = [*(curve.fractions for curve in every), *(control.fractions for control in series.controls)]
    scale = FractionScale.spanning(np.concatenate(measured))
    for axes, (bits, curves) in zip(places, series.panels, strict=False):
        _panel(axes, scale, bits, curves)
        for control in series.controls:
            if any(_beside(control, curve.n, curve.d_total) for curve in curves):
                axes.plot(scale.positions(control.fractions), control.above, **_CONTROL, zorder=1)
        axes.set_ylim(0.0, _TOP)
    for axes in places[len(series.panels) :]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel("Above the minimum,\nnats / 1000")
    return figure


def _panel(axes: Axes, scale: FractionScale, bits: float, curves: tuple[SplitCurve, ...]) -> None:
    scale.apply(axes, short=True)
    look = bits_look(bits)
    budgets = sorted({curve.d_total for curve in curves})
    for curve in curves:
        shade = 0.3 + 0.7 * (budgets.index(curve.d_total) + 1) / len(budgets)
        places = scale.positions(curve.fractions)
        axes.plot(places, curve.above, color=look.color, alpha=shade, linewidth=0.8, zorder=2)
        axes.plot(
            scale.positions(np.array([curve.chosen])), [curve.chosen_above], marker="o", markersize=3.2, color=INK,
            linestyle="none", zorder=3, alpha=shade,
        )  # fmt: skip
    axes.axvline(float(scale.positions(_RULE)), color=INK, linestyle=":", linewidth=0.8, zorder=1)
    axes.set_title(bits_name(bits), fontsize=8, loc="left")
    axes.set_xlabel("QAT fraction")
