"""How far a fitted optimum surface errs on curves that it was fitted without: by cell, and by rolling origin."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qatplan.errors import DataError
from qatplan.fitting import surface
from qatplan.fitting.curves import Curve, Minimum
from qatplan.fitting.split.folds import Fold, Places, by_cell, cells, rolling
from qatplan.fitting.split.regret import regret
from qatplan.laws.fit_parts import Pair, SplitEvidence, SplitScore
from qatplan.laws.inputs import Floats, Inputs
from qatplan.laws.odds import log_odds, share
from qatplan.laws.split_interval import split_interval

_FOLDS = 10
_LEAST_WIDENING = 0.1
"""A doubling, even where the curves show none: what lies beyond was not measured."""
_MOST_WIDENING = 2.0


def held_out(
    places: Places, found: Sequence[Minimum], seen: surface.Minima, best: surface.Surface, *, level: float, seed: int
) -> SplitEvidence | None:
    """Errors, and scores, on curves that the fit did not see; None where the curves allow no folds."""
    curves = _Curves.of([m.curve for m in found], seen, best, seed)
    ways: dict[str, Callable[[], list[Fold]]] = {
        "cell": lambda: by_cell(places, curves.lines, folds=_FOLDS, seed=seed),
        "tokens": lambda: rolling(places, curves.lines, "tokens"),
        "size": lambda: rolling(places, curves.lines, "size"),
    }
    asked: dict[str, list[_Asked]] = {}
    for way, folds in ways.items():
        try:
            asked[way] = curves.asked(folds(), rolls=way != "cell")
        except DataError:
            continue
    if "cell" not in asked:
        return None
    residuals = tuple(sorted(a.residual for a in asked["cell"] if math.isfinite(a.residual)))
    beyond = {way: of for way, of in asked.items() if way != "cell"}
    return SplitEvidence(
        residuals=residuals,
        widening=_widening(beyond.values(), level),
        scatter=best.scatter,
        # A way's own curves take no part in the widening that they are scored with.
        scores=tuple(
            _score(way, of, found, _widening([b for w, b in beyond.items() if w != way], level), level)
            for way, of in asked.items()
        ),
    )


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """One curve that was held out."""

    index: int
    """Number of the curve."""
    point: Inputs
    predicted: float
    """Fraction."""
    residual: float
    """Measured minus predicted log-odds; NaN for a curve whose minimum its points are too few to locate."""
    inner: bool
    """Whether the minimum lies between the fractions measured."""
    span: dict[str, Pair]
    """The fitted ranges of n and d_total."""
    others: tuple[float, ...]
    """Errors that are known without this curve, from which its interval is made."""

    def interval(self, widening: float, level: float) -> Pair:
        """Of the best fraction, as somebody would have got it who had not seen the curve."""
        known = SplitEvidence(residuals=self.others, widening=widening, scatter=math.nan, scores=())
        low, high = split_interval(known, self.point, np.array([self.predicted]), self.span, level=level)
        return float(low[0]), float(high[0])

    def held(self, widening: float, level: float) -> bool:
        """Whether the interval is consistent with what was measured."""
        low, high = self.interval(widening, level)
        measured = float(share(log_odds(self.predicted) + self.residual))
        return low - 1e-12 <= measured <= high + 1e-12


@dataclass(frozen=True, kw_only=True)
class _Curves:
    """Measured curves, and a surface for any part of them."""

    lines: Sequence[Curve]
    seen: surface.Minima
    best: surface.Surface
    cell: NDArray[np.intp]
    at: Floats
    """Log-odds of the measured minima: the median of the artificial ones, or the end."""
    side: NDArray[np.intp]
    """-1 or +1 where a curve is lowest at its first or last fraction."""
    seed: int

    @staticmethod
    def of(lines: Sequence[Curve], seen: surface.Minima, best: surface.Surface, seed: int) -> _Curves:
        """The curves with where each is lowest."""
        lowest = [int(np.argmin(c.loss)) for c in lines]
        side = np.array([(j == len(c.loss) - 1) - (j == 0) for j, c in zip(lowest, lines, strict=True)])
        middle = [float(np.nanmedian(row)) if np.isfinite(row).any() else np.nan for row in seen.at]
        at = np.where(side < 0, seen.low[:, 0], np.where(side > 0, seen.high[:, 0], middle))
        return _Curves(lines=lines, seen=seen, best=best, cell=np.array(cells(lines)), at=at, side=side, seed=seed)

    def asked(self, folds: Sequence[Fold], *, rolls: bool) -> list[_Asked]:
        """Every curve that a fold scores. An origin that rolls knows the errors within what it has seen alone."""
        found: list[_Asked] = []
        for fold in folds:
            scored = np.array(fold.scored, dtype=np.intp)
            kept = np.setdiff1d(np.arange(len(self.lines)), scored)
            predicted, residual = self.predicted(kept, scored)
            spans = {name: [getattr(self.lines[i], name) for i in kept] for name in ("n", "d_total")}
            within = self.within(kept) if rolls else ()
            for k, i in enumerate(scored.tolist()):
                found.append(
                    _Asked(
                        index=i,
                        point=surface.inputs([self.lines[i]]),
                        predicted=float(predicted[k]),
                        residual=float(residual[k]),
                        inner=bool(self.side[i] == 0 and np.isfinite(residual[k])),
                        span={name: (min(values), max(values)) for name, values in spans.items()},
                        others=within,
                    )
                )
        if rolls:
            return found
        known = [(self.cell[a.index], a.residual) for a in found if math.isfinite(a.residual)]
        return [replace(a, others=tuple(r for cell, r in known if cell != self.cell[a.index])) for a in found]

    def predicted(self, kept: NDArray[np.intp], asked: NDArray[np.intp]) -> tuple[Floats, Floats]:
        """(fractions, errors in log-odds) of curves by the surface of others."""
        law = surface.solve(self.seen.take(kept), begin=self.best.vector).law
        fraction = law.predict(surface.inputs([self.lines[i] for i in asked]))
        error, side = self.at[asked] - log_odds(fraction), self.side[asked]
        # At an end the optimum lies beyond it: the error is at least the distance to it, if it points there.
        return fraction, np.where((side == 0) | (side * error > 0), error, 0.0 * error)

    def within(self, kept: NDArray[np.intp]) -> tuple[float, ...]:
        """Errors of some of the curves, each by the surface of the other cells among them."""
        numbers = np.unique(self.cell[kept])
        parts = np.array_split(np.random.default_rng([self.seed, 8]).permutation(numbers), min(_FOLDS, len(numbers)))
        errors: list[float] = []
        for part in parts:
            out = np.isin(self.cell[kept], part)
            if out.all():
                continue
            errors += self.predicted(kept[~out], kept[out])[1].tolist()
        return tuple(e for e in errors if math.isfinite(e))


def _widening(beyond: Iterable[Sequence[_Asked]], level: float) -> float:
    """The least growth a doubling with which intervals hold on rolling origins as often as they say."""
    known = [[a for a in asked if math.isfinite(a.residual)] for asked in beyond]
    for widening in np.arange(_LEAST_WIDENING, _MOST_WIDENING, 0.05).round(2).tolist():
        if all(np.mean([a.held(widening, level) for a in of]) >= level for of in known if of):
            return float(widening)
    return _MOST_WIDENING


def _score(way: str, asked: Sequence[_Asked], found: Sequence[Minimum], widening: float, level: float) -> SplitScore:
    regrets = [float(regret(found[a.index].curve, a.predicted)) for a in asked]
    inner = [a for a in asked if a.inner]
    widths = [high - low for low, high in (a.interval(widening, level) for a in inner)]
    return SplitScore(
        way=way,
        curves=len(regrets),
        mean_regret=float(np.mean(regrets)),
        worst_regret=float(np.max(regrets)),
        interior=len(inner),
        coverage=float(np.mean([a.held(widening, level) for a in inner])) if inner else math.nan,
        median_width=float(np.median(widths)) if inner else math.nan,
    )
