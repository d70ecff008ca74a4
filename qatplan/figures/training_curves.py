"""Loss along training: one panel per bit width, one line per QAT fraction, so that the switch to QAT can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from qatplan.errors import DataError
from qatplan.figures.measured import Run, about, best, group, same_budgets
from qatplan.figures.style import CONTROL, INK, Look, applied, bits_name, legend, ordered_looks, panel_grid
from qatplan.laws.predictor import FloatArray
from qatplan.units import format_count


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Loss along one run."""

    bits: float | None
    """None is full precision."""
    fraction: float
    switch: float
    """Tokens at which QAT starts."""
    tokens: FloatArray
    loss: FloatArray
    diverged: bool


@dataclass(frozen=True, kw_only=True)
class TrainingCurves:
    """Everything `draw` needs: the traces of one size and budget."""

    n: float
    d_total: float
    traces: tuple[Trace, ...]
    title: str
    notes: tuple[str, ...]


def training_curves(runs: Sequence[Run], n: float | None = None, d_total: float | None = None) -> TrainingCurves:
    """The series for one size and budget: those given, else the pair with the most recorded curves.

    One run per bit width and fraction is shown, that of lowest final loss. Raises DataError where no run has a curve.
    """
    trained = [r for r in same_budgets(runs) if r.bits is None or r.fraction > 0]
    recorded = [r for r in trained if len(r.curve) >= 2 and about(n, r.n) and about(d_total, r.d_total)]
    if not recorded:
        raise DataError("no run of that size and budget records its loss along training, so there is nothing to draw.")
    pairs = [(r.n, r.d_total) for r in recorded]
    # The largest of the best covered pairs: ties are common in a factorial sweep.
    chosen = max(set(pairs), key=lambda pair: (pairs.count(pair), pair))
    shown = group(
        (r for r in recorded if (r.n, r.d_total) == chosen),
        lambda r: (np.inf if r.bits is None else r.bits, round(r.fraction, 3)),
    )
    n, d_total = chosen
    return TrainingCurves(
        n=n,
        d_total=d_total,
        traces=tuple(_traced(best(shown[key]), key[1]) for key in sorted(shown)),
        title=f"Loss along training of models with {format_count(n)} parameters and {format_count(d_total)} tokens",
        notes=("A small bar marks the switch to QAT; the run of lowest final loss is shown for each fraction.",),
    )


def _traced(run: Run, fraction: float) -> Trace:
    tokens, loss = np.array(run.curve).T
    switch = run.d_total * (1 - run.fraction)
    return Trace(bits=run.bits, fraction=fraction, switch=switch, tokens=tokens, loss=loss, diverged=run.loss is None)


@applied()
def draw(series: TrainingCurves) -> Figure:
    """A panel a bit width, the full-precision run in each."""
    widths: list[float | None] = sorted({t.bits for t in series.traces if t.bits is not None}) or [None]  # type: ignore[assignment]
    columns = min(3, len(widths))
    figure, grid = panel_grid(
        series.title, series.notes, rows=-(-len(widths) // columns), columns=columns,
        panel=(3.4 if columns == 1 else 1.9, 1.7), gaps=(0.18, 0.45), right=1.15,
    )  # fmt: skip
    fractions = sorted({t.fraction for t in series.traces if t.bits is not None})
    looks = dict(zip(fractions, ordered_looks(len(fractions)), strict=True))
    limits = _limits(series.traces)
    for k, axes in enumerate(axes for row in grid for axes in row):
        if k >= len(widths):
            axes.set_axis_off()
            continue
        axes.set(xlim=(0, 1.02 * series.d_total), ylim=limits)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(value)))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.grid(axis="y")
        axes.set_title(bits_name(np.nan if widths[k] is None else widths[k]))  # type: ignore[arg-type]
        if k % columns == 0:
            axes.set_ylabel("Loss (nats/token)")
        else:
            axes.set_yticklabels([])
        axes.set(xlabel="Tokens" if k + columns >= len(widths) else "")
        for trace in series.traces:
            if trace.bits is None:
                axes.plot(trace.tokens, trace.loss, **CONTROL)
            elif trace.bits == widths[k]:
                _trace(axes, trace, looks[trace.fraction])
    entries = [{**look.stroke, "label": f"f = {fraction:.3g}"} for fraction, look in looks.items()]
    legend(grid[0][-1], [*entries, {**CONTROL, "label": "full precision"}])
    return figure


def _trace(axes: Axes, trace: Trace, look: Look) -> None:
    axes.plot(trace.tokens, trace.loss, **look.stroke, linewidth=0.9, clip_on=True)
    if 0 < trace.fraction < 1 and trace.tokens[0] <= trace.switch:
        at = float(np.interp(trace.switch, trace.tokens, trace.loss))
        axes.plot([trace.switch], [at], marker="|", markersize=6, color=look.color, linestyle="none")
    if trace.diverged:
        axes.plot([trace.tokens[-1]], [min(trace.loss[-1], axes.get_ylim()[1])], marker="x", color=INK, clip_on=False)


def _limits(traces: Sequence[Trace]) -> tuple[float, float]:
    """Loss limits from the second half of training up to what the first tenth loses, without diverged runs."""
    values = np.concatenate([t.loss for t in traces if not t.diverged] or [t.loss for t in traces])
    values = values[np.isfinite(values)]
    if values.size == 0:
        raise DataError("no recorded loss along training is finite, so there is nothing to draw.")
    low, high = float(values.min()), float(np.quantile(values, 0.85))
    pad = max(0.05 * (high - low), 0.005 * low)
    return low - pad, high + pad
