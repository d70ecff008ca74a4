"""`fit` for the optimum surface: the fit, and its errors on measured curves that it was fitted without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qatplan.errors import DataError, UsageError
from qatplan.fitting import surface
from qatplan.fitting.curves import Curve, Minimum, NoMinimum, curves, minima
from qatplan.fitting.fraction_law import curve_record, errors_by_bits
from qatplan.fitting.options import FitOptions
from qatplan.fitting.provenance import provenance, ranges
from qatplan.fitting.rows import BEATEN, Rows, select
from qatplan.fitting.split.folds import Fold, Places, by_cell, cells, rolling
from qatplan.fitting.split.regret import log_odds, regret
from qatplan.laws.fit_parts import Certificate, FractionDiagnostics, Pair, Resampling, SplitEvidence, SplitScore
from qatplan.laws.fitted import FittedLaw, Status
from qatplan.laws.flags import Flag
from qatplan.laws.fraction_surface import FractionSurface
from qatplan.laws.inputs import Floats, Inputs
from qatplan.laws.qat_fraction import QatFraction
from qatplan.laws.quantiles import central
from qatplan.laws.split_interval import split_interval

_FOLDS = 10
_LEAST_WIDENING = 0.1
"""A doubling, even where the curves show none: what lies beyond was not measured."""
_MOST_WIDENING = 2.0


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
        noise=float(np.sqrt(np.mean(np.log(predicted[inner] / measured[inner]) ** 2))) if inner else float("nan"),
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
            mae=float(np.mean(np.abs(error))) if inner else float("nan"),
            mae_published_law=_mae([published[i] for i in inner], measured[inner]),
            by_bits=by_bits,
            split=_evidence(Places.of(table, options.n), found, seen, best, level=options.level, seed=options.seed),
        ),
        provenance=provenance(chosen, seed=options.seed, sources=sources, command=command, rows=options.rows),
    )


def _published(lines: Sequence[Curve]) -> list[float | None]:
    law = QatFraction()
    return [float(law.fraction(c.s_total)) if c.s_total > 1 else None for c in lines]


def _mae(published: Sequence[float | None], measured: Floats) -> float:
    known = [abs(p - m) for p, m in zip(published, measured, strict=True) if p is not None]
    return float(np.mean(known)) if known else float("nan")


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


def _evidence(
    places: Places, found: Sequence[Minimum], seen: surface.Minima, best: surface.Surface, *, level: float, seed: int
) -> SplitEvidence | None:
    """Errors, and scores, on curves that the fit did not see; None where the curves allow no folds."""
    lines = [m.curve for m in found]
    ways: dict[str, Callable[[], list[Fold]]] = {
        "cell": lambda: by_cell(places, lines, folds=_FOLDS, seed=seed),
        "tokens": lambda: rolling(places, lines, "tokens"),
        "size": lambda: rolling(places, lines, "size"),
    }
    asked: dict[str, _Asked] = {}
    for way, folds in ways.items():
        try:
            asked[way] = _asked(folds(), lines, seen, best)
        except DataError:
            continue
    if "cell" not in asked:
        return None
    residuals = np.sort(asked["cell"].residual[asked["cell"].known])
    made = SplitEvidence(residuals=tuple(residuals.tolist()), widening=0.0, scatter=best.scatter, scores=())
    beyond = [asked[way] for way in ("tokens", "size") if way in asked]
    widening = _widening(made, beyond, level)
    made = SplitEvidence(residuals=made.residuals, widening=widening, scatter=best.scatter, scores=())
    scores = tuple(_score(way, of, found, made, level) for way, of in asked.items())
    return SplitEvidence(residuals=made.residuals, widening=widening, scatter=best.scatter, scores=scores)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """Curves held out, each as often as it was asked for, one entry each time."""

    index: list[int]
    """Numbers of the curves."""
    points: Inputs
    predicted: Floats
    """Fractions."""
    residual: Floats
    """Measured minus predicted log-odds; NaN for a curve whose minimum its points are too few to locate."""
    side: NDArray[np.intp]
    """-1 or +1 where the curve is lowest at its first or last fraction."""
    spans: list[dict[str, Pair]]
    """The fitted ranges of n and d_total."""

    @property
    def known(self) -> NDArray[np.bool_]:
        """Where there is a residual."""
        return np.isfinite(self.residual)


def _asked(folds: Sequence[Fold], lines: Sequence[Curve], seen: surface.Minima, best: surface.Surface) -> _Asked:
    lowest = [int(np.argmin(c.loss)) for c in lines]
    side = np.array([-1 if j == 0 else 1 if j == len(c.loss) - 1 else 0 for j, c in zip(lowest, lines, strict=True)])
    # The measured minimum: the median of its artificial ones, or the end.
    middle = [float(np.nanmedian(row)) if np.isfinite(row).any() else np.nan for row in seen.at]
    at = np.where(side < 0, seen.low[:, 0], np.where(side > 0, seen.high[:, 0], middle))
    index: list[int] = []
    predicted: list[float] = []
    spans: list[dict[str, Pair]] = []
    for fold in folds:
        kept = np.setdiff1d(np.arange(len(lines)), fold.scored)
        law = surface.solve(seen.take(kept), begin=best.vector).law
        predicted += law.predict(surface.inputs([lines[i] for i in fold.scored])).tolist()
        index += fold.scored
        span = {name: [getattr(lines[i], name) for i in kept] for name in ("n", "d_total")}
        spans += [{name: (min(values), max(values)) for name, values in span.items()}] * len(fold.scored)
    error = at[index] - log_odds(np.array(predicted))
    bound = side[index]
    return _Asked(
        index=index,
        points=surface.inputs([lines[i] for i in index]),
        predicted=np.array(predicted),
        # At an end the optimum lies beyond it: the error is at least the distance to it, if it points there.
        residual=np.where((bound == 0) | (bound * error > 0), error, 0.0 * error),
        side=bound,
        spans=spans,
    )


def _held(evidence: SplitEvidence, asked: _Asked, level: float) -> tuple[NDArray[np.bool_], Floats]:
    """(whether each interval is consistent with what was measured, widths)."""
    low, high = (np.empty(len(asked.index)) for _ in range(2))
    for i, span in enumerate(asked.spans):
        one = slice(i, i + 1)
        low[one], high[one] = split_interval(evidence, asked.points.take(one), asked.predicted[one], span, level=level)
    measured = 1.0 / (1.0 + np.exp(-(log_odds(asked.predicted) + asked.residual)))
    return (measured >= low - 1e-12) & (measured <= high + 1e-12), high - low


def _widening(evidence: SplitEvidence, beyond: Sequence[_Asked], level: float) -> float:
    """The least growth a doubling with which the intervals hold on rolling origins as often as they say."""
    for widening in np.arange(_LEAST_WIDENING, _MOST_WIDENING + 1e-9, 0.05).tolist():
        made = SplitEvidence(residuals=evidence.residuals, widening=widening, scatter=evidence.scatter, scores=())
        if all(np.mean(_held(made, of, level)[0][of.known]) >= level - 0.5 / max(of.known.sum(), 1) for of in beyond):
            return float(round(widening, 2))
    return _MOST_WIDENING


def _score(way: str, asked: _Asked, found: Sequence[Minimum], evidence: SplitEvidence, level: float) -> SplitScore:
    regrets = [float(regret(found[i].curve, f)) for i, f in zip(asked.index, asked.predicted, strict=True)]
    held, width = _held(evidence, asked, level)
    inner = (asked.side == 0) & asked.known
    return SplitScore(
        way=way,
        curves=len(regrets),
        mean_regret=float(np.mean(regrets)),
        worst_regret=float(np.max(regrets)),
        interior=int(inner.sum()),
        coverage=float(np.mean(held[inner])) if inner.any() else float("nan"),
        median_width=float(np.median(width[inner])) if inner.any() else float("nan"),
    )
