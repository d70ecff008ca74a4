"""Laws and rules ranked by the regret of the fractions that they name on curves that their fits did not see."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from qatplan import runs
from qatplan.errors import DataError, QatplanError, UsageError
from qatplan.fitting.curves import Minimum
from qatplan.fitting.options import Choice, FitOptions
from qatplan.fitting.split.folds import Fold, Places, by_cell, cells, everything, rolling
from qatplan.fitting.split.predictors import Predictor, Split, predictors
from qatplan.fitting.split.regret import measured_curves, regret
from qatplan.fitting.split.summary import Entry, Scheme, Score, Way, summarised
from qatplan.laws.fit_parts import LeftOut
from qatplan.laws.inputs import Inputs

_NO_ANSWER = "no curve has an answer from every law and rule"


@dataclass(frozen=True, kw_only=True)
class SplitComparison:
    """What each law's and rule's choice of the split costs on measured curves."""

    curves: int
    interior: int
    cells: int
    schemes: tuple[Scheme, ...]
    """By cell, by rolling origin in tokens, and in size."""
    in_sample: Scheme
    """On the curves that were fitted; no measure of what a law knows."""
    left_out: tuple[LeftOut, ...]


def compare_splits(
    table: Any, *, laws: Sequence[str] | None = None, folds: int = 6, bootstrap: int = 0, rows: str | None = None,
    n: str = "total", huber: float = 1e-3, keep_tuning: bool = False, effects: Choice = "none", seed: int = 0,
) -> SplitComparison:  # fmt: skip
    """Score every law that has an opinion on the fraction (or `laws`), and the rules, on the curves of an Arrow table.

    Each law is fitted once a fold. `bootstrap` draws a fit give the coverage of its 95 % intervals. Raises
    UsageError for a law without an opinion, and DataError for a table without curves or whose curves allow no scheme.
    """
    if folds < 2:
        raise UsageError(f"folds is {folds}; allowed is 2 or more")
    options = FitOptions(
        rows=rows, n=n, huber=huber, keep_tuning=keep_tuning, effects=effects, seed=seed, bootstrap=bootstrap
    )
    judged = predictors(laws, options)
    if rows is not None:
        table = runs.select(table, rows)
    used, found = measured_curves(table, expression=rows, n=n)
    places, lines = Places.of(table, n), [m.curve for m in found]
    ways: dict[Way, Callable[[], list[Fold]]] = {
        "cell": partial(by_cell, places, lines, folds=folds, seed=seed),
        "tokens": partial(rolling, places, lines, "tokens"),
        "size": partial(rolling, places, lines, "size"),
    }
    schemes = tuple(_scheme(way, make, table, found, judged) for way, make in ways.items())
    if all(s.why_not is not None for s in schemes):
        raise DataError("; ".join(dict.fromkeys(str(s.why_not) for s in schemes)), evidence=found)
    return SplitComparison(
        curves=len(found),
        interior=sum(m.none is None for m in found),
        cells=len(set(cells(lines))),
        schemes=schemes,
        in_sample=_scheme("in sample", partial(everything, places, lines), table, found, judged),
        left_out=used.left_out,
    )


def _scheme(
    way: Way, make: Callable[[], list[Fold]], table: Any, found: Sequence[Minimum], judged: Sequence[Predictor]
) -> Scheme:
    try:
        folds = make()
    except DataError as error:
        return Scheme(way=way, why_not=str(error))
    asked = sum(len(f.scored) for f in folds)
    entries = [_judged(p, folds, table, found) for p in judged]
    able = [e for e in entries if e.error is None]
    # All are compared on the same curves: those for which each of them has an answer.
    keep = [i for i in range(asked) if able and not any(math.isnan(e.scores[i].fraction) for e in able)]
    if not keep:
        return Scheme(way=way, folds=len(folds), why_not=_NO_ANSWER, entries=tuple(entries))
    able = [replace(e, scores=tuple(e.scores[i] for i in keep)) for e in able]
    able.sort(key=lambda e: float(np.mean([s.regret for s in e.scores])))
    return Scheme(
        way=way,
        folds=len(folds),
        scored=len(keep),
        unanswered=asked - len(keep),
        entries=(*(summarised(e, able[0]) for e in able), *(e for e in entries if e.error is not None)),
    )


def _judged(predictor: Predictor, folds: Sequence[Fold], table: Any, found: Sequence[Minimum]) -> Entry:
    """A predictor's scores in the order of the folds and their curves."""
    number = cells([m.curve for m in found])
    entry, scores = Entry(name=predictor.name, kind=predictor.kind), list[Score]()
    for k, fold in enumerate(folds):
        of = [found[i] for i in fold.scored]
        points = Inputs.of(
            n=[m.curve.n for m in of], d_total=[m.curve.d_total for m in of], bits=[m.curve.bits for m in of],
            fraction=0.5,
        )  # fmt: skip
        try:
            split = predictor.fit(table.filter(fold.fitted), points)
        except QatplanError as error:
            return replace(entry, error=f"not fitted to {int(fold.fitted.sum())} of the runs: {error}")
        entry = replace(
            entry,
            parameters=max(entry.parameters, split.parameters),
            uncertified=entry.uncertified + (not split.certified),
        )
        for j, (m, i, distance) in enumerate(zip(of, fold.scored, fold.distance, strict=True)):
            scores.append(_score(m, split, j, cell=number[i], fold=k, distance=distance))
    answers = sum(not math.isnan(s.fraction) for s in scores)
    if 2 * answers < len(scores):
        return replace(entry, error=f"names a fraction for {answers} of {len(scores)} curves only")
    return replace(entry, scores=tuple(scores))


def _score(m: Minimum, split: Split, j: int, *, cell: int, fold: int, distance: float) -> Score:
    c = m.curve
    x = Inputs.of(n=c.n, d_total=c.d_total, bits=c.bits, group_size=c.group_size, fraction=c.fraction)
    predicted = split.loss(x)
    low, high = float(split.low[j]), float(split.high[j])
    inner = m.fraction if m.none is None else math.nan
    return Score(
        n=c.n,
        d_total=c.d_total,
        bits=c.bits,
        seed=c.seed,
        cell=cell,
        fold=fold,
        distance=distance,
        fraction=float(split.fraction[j]),
        minimum=inner,
        regret=float(regret(c, split.fraction[j])),
        held=None if math.isnan(low + high + inner) else low <= inner <= high,
        loss_error=math.nan if predicted is None else float(np.mean(np.abs(np.log(predicted / c.loss)))),
    )
