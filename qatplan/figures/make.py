"""From what a person has (runs, a fit, or both) to one figure: the kinds, what each needs, sensible defaults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qatplan.errors import DataError, UsageError
from qatplan.figures import (
    contours,
    fraction,
    frontier,
    loss_curves,
    loss_curves_drawing,
    parameters,
    residuals,
    split,
    training_curves,
)
from qatplan.figures.measured import Run, about, runs_of
from qatplan.fitting.curves import MeasuredOptimum, measured_optima, recorded_optima
from qatplan.fitting.provenance import read_recorded, rows_of_fit
from qatplan.laws.fraction_surface import FractionSurface
from qatplan.runs import select as select_runs
from qatplan.runs.schema import CONTROL_BITS
from qatplan.units import format_count

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

    from qatplan.laws.fitted import FittedLaw
    from qatplan.laws.predictor import Predictor

KINDS: dict[str, str] = {
    "loss-curves": "loss against the QAT fraction, from runs; with the fitted curves when a fit is given too",
    "fraction": "optimal fraction against tokens per parameter byte, from runs, a fit, or both",
    "contours": "loss over the tokens of the two phases, from a fit of qat-loss",
    "frontier": "lowest loss and its bit width against weight memory, from a fit of qat-loss",
    "residuals": "what a fit leaves unexplained, from a fit and runs",
    "parameters": "parameters and their intervals, from a fit",
    "split": "what splits cost on measured curves and what the law chose, from a fit of fraction-surface",
}
NEEDS_FIT = ("contours", "frontier", "residuals", "parameters", "split")
NEEDS_RUNS = ("loss-curves", "residuals")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to draw, beyond the kind; None leaves the choice to the figure."""

    params: float | None = None
    """Parameters of the model for contours and training curves."""
    tokens: float | None = None
    """Training tokens for the frontier and training curves; the largest budget for contours."""
    bits: tuple[float, ...] | None = None
    layout: str = "grid"
    """How loss curves share panels: "grid" is one per size and bit width, "bits" one per bit width."""
    relative: bool = False
    """Loss above the full-precision control in place of the loss itself (loss-curves)."""
    training: bool = False
    """Loss along training in place of final losses (loss-curves)."""

    def __post_init__(self) -> None:
        if self.layout not in ("grid", "bits"):
            raise UsageError(f"layout is {self.layout!r}; allowed are grid and bits.")


@dataclass(frozen=True, kw_only=True)
class Made:
    """A figure with its title, its notes, and the series it shows."""

    figure: Figure
    title: str
    notes: tuple[str, ...]
    series: Any
    remarks: tuple[str, ...] = ()
    """What a person should know about the sources that were found for the figure."""


def check_sources(kind: str, *, fit: bool, runs: bool) -> None:
    """Raise UsageError for an unknown kind, or saying which of a fit and runs it lacks."""
    if kind not in KINDS:
        raise UsageError(f"'{kind}' is no kind of figure; choose one of {', '.join(KINDS)}.")
    if kind in NEEDS_FIT and not fit:
        raise UsageError(
            f"{kind} is drawn from a fit, and a table of runs was given; "
            "make a fit with `qatplan fit` and pass its JSON file."
        )
    if kind in NEEDS_RUNS and not runs:
        raise UsageError(f"{kind} is drawn from measured runs, and only a fit was given; add --runs with the table.")


def draw(
    kind: str, *, fitted: FittedLaw | None = None, path: Path | None = None, table: pa.Table | None = None,
    rows: str | None = None, request: Request | None = None,
) -> Made:  # fmt: skip
    """The figure of `kind` from a fit, a table of runs, or both; nothing global in matplotlib is touched.

    Without a table the runs are those that the fit of `path` names, if they are still there. `rows` is an expression
    that chooses runs. Residuals are those of the rows that the fit used. Raises UsageError for an unknown kind or a
    missing source, DataError where nothing is left to draw.
    """
    check_sources(kind, fit=fitted is not None, runs=True)
    wish, remarks = request or Request(), []
    if table is None and fitted is not None and path is not None and kind not in ("parameters", "split"):
        table, remark = read_recorded(fitted, path)
        remarks += [remark] if remark else []
    if table is None and remarks and kind in NEEDS_RUNS:
        raise UsageError(f"{kind} is drawn from measured runs: {remarks[0]}.")
    check_sources(kind, fit=fitted is not None, runs=table is not None)
    if table is not None:
        table = table if rows is None else select_runs(table, rows)
        if table.num_rows == 0:
            raise DataError("no run is left to draw; check --rows." if rows else "the table holds no runs.")
    if kind == "residuals" and fitted is not None and table is not None and fitted.law.quantity == "loss":
        table, exact = rows_of_fit(fitted, table)
        if table is None:
            raise DataError(f"no run can be used with law {fitted.law.name}, so there are no residuals to draw.")
        if exact is False:
            remarks.append("remark: these runs are not exactly those that the fit was made from")
    counting = "total" if fitted is None else fitted.n_convention
    asked = None if wish.bits is None or kind != "split" else (*wish.bits, CONTROL_BITS)
    runs = [] if table is None else _of_bits(runs_of(table, counting), asked or wish.bits)
    made = _made(kind, runs, table, fitted, wish)
    return replace(made, remarks=tuple(remarks))


def _made(kind: str, runs: list[Run], table: pa.Table | None, fitted: FittedLaw | None, wish: Request) -> Made:
    predictor = None if fitted is None else fitted.predictor()
    if kind == "loss-curves":
        return _loss_curves(runs, predictor, wish)
    if kind == "split" and fitted is not None:
        return _shown(split.draw, split.split_figure(fitted, bits=wish.bits, params=wish.params, runs=runs))
    # Laws are about quantization: the rest leaves out second phases in full precision.
    runs = [r for r in runs if r.bits != CONTROL_BITS]
    if fitted is None or predictor is None:
        # Only the fraction is drawn without a fit.
        return _shown(fraction.draw, fraction.fraction_figure(_optima(table, fitted, wish)))
    if kind == "fraction":
        return _fraction(_optima(table, fitted, wish), fitted, predictor, wish)
    if kind == "residuals":
        return _shown(residuals.draw, residuals.residuals(runs, predictor, fitted.noise))
    if kind == "parameters":
        return _shown(parameters.draw, parameters.parameters(fitted))
    return (_contours if kind == "contours" else _frontier)(runs, fitted, predictor, wish)


def _shown(draw: Callable[[Any], Figure], series: Any) -> Made:
    return Made(figure=draw(series), title=series.title, notes=tuple(series.notes), series=series)


def _of_bits(runs: Sequence[Run], bits: tuple[float, ...] | None) -> list[Run]:
    kept = [r for r in runs if bits is None or r.bits is None or r.bits in bits]
    if bits is not None and all(r.bits is None for r in kept):
        known = ", ".join(f"{b:g}" for b in sorted({r.bits for r in runs if r.bits is not None}))
        raise UsageError(f"no run has the bits asked for; the table has {known or 'none'}.")
    return kept


def _optima(table: pa.Table | None, fitted: FittedLaw | None, wish: Request) -> list[MeasuredOptimum]:
    if table is not None:
        found = measured_optima(table, n="total" if fitted is None else fitted.n_convention)
    else:
        found = [] if fitted is None else recorded_optima(fitted)
    return [o for o in found if wish.bits is None or o.bits in wish.bits]


def _loss_curves(runs: Sequence[Run], predictor: Predictor | None, wish: Request) -> Made:
    if wish.training:
        return _shown(training_curves.draw, training_curves.training_curves(runs, wish.params, wish.tokens))
    kept = [r for r in runs if about(wish.params, r.n) and about(wish.tokens, r.d_total)]
    if not kept:
        sizes = ", ".join(format_count(n) for n in sorted({r.n for r in runs}))
        raise DataError(f"no run has the --params and --tokens asked for; the table's sizes are {sizes}.")
    return _shown(loss_curves_drawing.draw, loss_curves.loss_curves(kept, predictor, wish.layout, wish.relative))


def _fraction(shown: list[MeasuredOptimum], fitted: FittedLaw, predictor: Predictor, wish: Request) -> Made:
    surface = fitted if isinstance(fitted.law, FractionSurface) else None
    if surface is None and not predictor.law.sees_fraction:
        return _shown(fraction.draw, fraction.fraction_figure(shown, predictor))
    low, high = fitted.ranges.get("n", (np.nan, np.nan))
    sizes = [wish.params] if wish.params else [o.n for o in shown] or [float(np.sqrt(low * high))]
    widths = wish.bits or _of_those_fitted(fitted, {o.bits for o in shown}) or _fitted_bits(fitted)
    series = fraction.fraction_figure(shown, predictor, sizes=sizes, bits=widths, tokens=_range(fitted, "d_total"),
                                     surface=surface)  # fmt: skip
    return _shown(fraction.draw, series)


def _contours(runs: Sequence[Run], fitted: FittedLaw, predictor: Predictor, wish: Request) -> Made:
    widths = wish.bits or _fitted_bits(fitted)
    if wish.bits is not None and len(wish.bits) > 1:
        raise UsageError("contours show one bit width; give a single number to --bits.")
    # Four bits are the usual target; without them the middle of what was fitted.
    bits = 4.0 if 4.0 in widths else widths[len(widths) // 2]
    sizes = sorted({r.n for r in runs if r.bits == bits})
    low, high = _range(fitted, "n")
    middle = float(np.sqrt(low * high))
    n = wish.params or (min(sizes, key=lambda size: abs(np.log(size / middle))) if sizes else middle)
    same = [r for r in runs if r.bits == bits and about(n, r.n)]
    budgets = [r.d_total for r in same]
    tokens = (min(budgets), max(budgets)) if budgets else _range(fitted, "d_total")
    if wish.tokens is not None:
        tokens = (min(tokens[0], wish.tokens / 10), wish.tokens)
    spots = [(r.d_total * (1 - r.fraction), r.d_total * r.fraction) for r in same]
    series = contours.contours(predictor, n=n, bits=bits, tokens=tokens, measured=sorted(set(spots)))
    return _shown(contours.draw, series)


def _frontier(runs: Sequence[Run], fitted: FittedLaw, predictor: Predictor, wish: Request) -> Made:
    seen = _of_those_fitted(fitted, {r.bits for r in runs if r.bits is not None})
    low, high = _range(fitted, "d_total")
    bits, d_total = wish.bits or seen or _fitted_bits(fitted), wish.tokens or float(np.sqrt(low * high))
    series = frontier.frontier(predictor, bits=bits, d_total=d_total, sizes=_range(fitted, "n"))
    return _shown(frontier.draw, series)


def _range(fitted: FittedLaw, name: str) -> tuple[float, float]:
    low, high = fitted.ranges.get(name, (np.nan, np.nan))
    if name == "bits" and name not in fitted.ranges and fitted.rows:
        raise UsageError(
            f"the fit of {fitted.law.name} is of full-precision runs alone and has no bit width to draw; that takes a "
            "fit of quantized runs."
        )
    if not (np.isfinite(low) and np.isfinite(high) and 0 < low <= high):
        raise DataError(f"the fit does not record its range of {name}, which this figure needs; fit the runs again.")
    return low, high


def _of_those_fitted(fitted: FittedLaw, widths: set[float]) -> tuple[float, ...]:
    """The widths that the law was fitted on: for others it is drawn only when asked."""
    low, high = fitted.ranges.get("bits", (0.0, np.inf))
    return tuple(sorted(b for b in widths if low <= b <= high))


def _fitted_bits(fitted: FittedLaw) -> tuple[float, ...]:
    """Usual bit widths within the range that was fitted, its ends included."""
    low, high = _range(fitted, "bits")
    return tuple(sorted({low, high, *(b for b in (1.0, 2.0, 3.0, 4.0, 6.0, 8.0) if low <= b <= high)}))
