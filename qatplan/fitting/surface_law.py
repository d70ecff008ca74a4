"""`fit` for the optimum surface: the fit, and its errors on measured curves that it was fitted without."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from qatplan.errors import UsageError
from qatplan.fitting import surface
from qatplan.fitting.curves import Curve, Minimum, NoMinimum, curves, minima
from qatplan.fitting.fraction_law import curve_record, errors_by_bits
from qatplan.fitting.options import FitOptions
from qatplan.fitting.provenance import provenance, ranges
from qatplan.fitting.rows import BEATEN, Rows, select
from qatplan.fitting.split.folds import Places, cells
from qatplan.fitting.surface_evidence import held_out
from qatplan.laws.fit_parts import Certificate, FractionDiagnostics, Pair, Resampling
from qatplan.laws.fitted import FittedLaw, Status
from qatplan.laws.flags import Flag
from qatplan.laws.fraction_surface import FractionSurface
from qatplan.laws.inputs import Floats
from qatplan.laws.qat_fraction import QatFraction
from qatplan.laws.quantiles import central


def fit_surface(
    table: Any, options: FitOptions, *, sources: Sequence[str] = (), command: str | None = None
) -> FittedLaw:
    """Fit the best QAT fraction as a surface over bits and tokens to the minima of measured curves.

    Curves come from the classic schedule unless `rows` chooses others, the best tuning at each fraction. `bootstrap`
    draws resample cells. The fit keeps the curves, and its errors and regrets on curves held out by cell and by
    rolling origin, from which intervals of the best fraction are made. Raises DataError without a curve of five
    fractions, and UsageError for `fix`.
    """
    if options.fix:
        raise UsageError("fix has no meaning for law fraction-surface; leave it out")
    chosen = select(table, FractionSurface.name, shape=FractionSurface, expression=options.rows, n=options.n)
    every = minima(curves(chosen), draws=200, seed=options.seed)
    found = [m for m in every if m.none is not NoMinimum.FEW_FRACTIONS]
    lines = [m.curve for m in found]
    seen = surface.observed(lines, seed=options.seed)
    best = surface.solve(seen, seed=options.seed)
    law, number = best.law, cells(lines)
    draws = None
    if options.bootstrap:
        draws = surface.bootstrap(seen, best, number, draws=options.bootstrap, seed=options.seed)
    names = [p.name for p in law.parameters()]
    intervals: dict[str, Pair] = {}
    if draws is not None:
        intervals = {name: central(draws[:, i], options.level) for i, name in enumerate(names)}
    inner = [i for i, m in enumerate(found) if m.none is None]
    at = surface.inputs(lines)
    predicted, published = law.predict(at), _published(lines)
    measured = np.array([m.fraction for m in found])
    error = (predicted - measured)[inner]
    spans = ranges(chosen) | {
        "n": (float(at.n.min()), float(at.n.max())),
        "d_total": (float(at.d_total.min()), float(at.d_total.max())),
        "bits": (float(at.bits.min()), float(at.bits.max())),
    }
    by_bits = errors_by_bits([found[i] for i in inner], error)
    return FittedLaw(
        law=law,
        draws=None if draws is None else np.array([[float(f"{v:.10g}") for v in row] for row in draws]),
        intervals=intervals,
        interval_kind="bootstrap" if intervals else "none",
        level=options.level,
        objective=best.objective,
        rows=len(chosen),
        left_out=chosen.left_out,
        status=Status.GOOD if best.agreeing > 1 else Status.STARTS_DISAGREE,
        flags=_flags(every, found, chosen),
        identifiability=_open(lines),
        n_convention=options.n,
        bytes_per_token=chosen.bytes_per_token,
        noise=float(np.sqrt(np.mean(np.log(predicted[inner] / measured[inner]) ** 2))) if inner else math.nan,
        ranges=spans,
        certificate=Certificate(
            starts=best.starts,
            starts_agreeing=best.agreeing,
            objective="negative log-likelihood of minima",
            bootstrap=None
            if draws is None
            else Resampling(draws=len(draws), kind="case", clusters=len(set(number)), unfinished=0),
        ),
        diagnostics=FractionDiagnostics(
            curves=tuple(
                curve_record(m, options.level, laws=(float(predicted[i]), published[i]), whole=True)
                for i, m in enumerate(found)
            ),
            measured_optima=len(inner),
            without_inner_minimum=len(found) - len(inner),
            mae=float(np.mean(np.abs(error))) if inner else math.nan,
            mae_published_law=_mae([published[i] for i in inner], measured[inner]),
            by_bits=by_bits,
            split=held_out(Places.of(table, options.n), found, seen, best, level=options.level, seed=options.seed),
        ),
        provenance=provenance(chosen, seed=options.seed, sources=sources, command=command, rows=options.rows),
    )


def _published(lines: Sequence[Curve]) -> list[float | None]:
    law = QatFraction()
    return [float(law.fraction(c.s_total)) if c.s_total > 1 else None for c in lines]


def _mae(published: Sequence[float | None], measured: Floats) -> float:
    known = [abs(p - m) for p, m in zip(published, measured, strict=True) if p is not None]
    return float(np.mean(known)) if known else math.nan


def _flags(every: Sequence[Minimum], found: Sequence[Minimum], chosen: Rows) -> tuple[str, ...]:
    """What to know of the curves; minima at an end are bounds here, and no cause for one."""
    flags = []
    if short := len(every) - len(found):
        flags.append(Flag.SHORT(short=short, all=len(every)))
    if any(e.reason == BEATEN for e in chosen.left_out):
        flags.append(Flag.ENVELOPE())
    return tuple(flags)


def _open(lines: Sequence[Curve]) -> tuple[str, ...]:
    """What the curves do not determine, so that the priors decide it."""
    notes = []
    if len({c.bits for c in lines}) < 2:
        notes.append("c_B cannot be determined: all curves have the same bits; it is what was assumed before, -2 +- 2")
    if max(c.d_total for c in lines) < 1.1 * min(c.d_total for c in lines):
        notes.append(
            "c_D cannot be determined: all curves have the same tokens; it is what was assumed before, 0.4 +- 0.3"
        )
    return tuple(notes)
