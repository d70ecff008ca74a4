"""Scores of many curves together: regret in all, by bit width and by distance, and how surely one is behind another."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from qatplan.fitting.split.predictors import Kind

Way = Literal["cell", "tokens", "size", "in sample"]
"""How curves were kept from the fit: by cell, by rolling origin in tokens or in size, or not at all."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One predictor on one curve."""

    n: float
    d_total: float
    bits: float
    seed: float
    cell: int
    fold: int
    distance: float
    """Tokens (or size) over the largest fitted."""
    fraction: float
    minimum: float
    """Measured optimal fraction; NaN where the curve is lowest at an end."""
    regret: float
    """Nats per token."""
    held: bool | None
    """Whether the predictor's interval holds `minimum`; None without either."""
    loss_error: float
    """Mean |log(predicted/measured)| over the curve; NaN for what predicts no loss."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Scores of several curves together."""

    curves: int
    mean_regret: float
    """Nats per token, as the next two."""
    median_regret: float
    worst_regret: float
    interior: int
    """Curves with a minimum inside the measured range."""
    fraction_error: float
    """Mean |predicted - measured| optimal fraction of those; NaN where there are none."""
    intervals: int
    """Interior curves for which there was an interval."""
    coverage: float
    """Share of those intervals that hold the measured minimum; NaN without any."""
    loss_error: float
    """Mean |log(predicted/measured)|; NaN for what predicts no loss."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One predictor; `error` says why it has no scores."""

    name: str
    kind: Kind
    parameters: int = 0
    uncertified: int = 0
    """Fits that did not pass their certificate; they count all the same."""
    overall: Summary | None = None
    by_bits: tuple[tuple[float, Summary], ...] = ()
    by_distance: tuple[tuple[float, Summary], ...] = ()
    """Under the power of 2 up to which the scored tokens (or sizes) exceed the fitted ones."""
    behind: float = math.nan
    """Mean regret above that of the best, nats per token."""
    behind_error: float = math.nan
    """Standard error of `behind` over cells, from paired differences; NaN for the best itself."""
    error: str | None = None
    scores: tuple[Score, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """All predictors under one way of keeping curves from their fits, the least mean regret first."""

    way: Way
    folds: int = 0
    scored: int = 0
    """Curves, each counted as often as it was asked for."""
    unanswered: int = 0
    """Further ones that some predictor has no answer for, and that count for none."""
    entries: tuple[Entry, ...] = ()
    why_not: str | None = None
    """Why the curves do not allow it."""


def summarised(entry: Entry, best: Entry) -> Entry:
    """The entry with its scores summed up, beside those of the best on the same curves."""
    bits, distances = defaultdict[float, list[Score]](list), defaultdict[float, list[Score]](list)
    for s in entry.scores:
        bits[s.bits].append(s)
        # Budgets are met within a per cent or two: twice as many tokens may be 2.01 times as many.
        distances[2.0 ** max(0, math.ceil(math.log2(s.distance / 1.02)))].append(s)
    behind, error = _behind(entry.scores, best.scores)
    return replace(
        entry,
        overall=_summary(entry.scores),
        by_bits=tuple((b, _summary(of)) for b, of in sorted(bits.items())),
        by_distance=tuple((d, _summary(of)) for d, of in sorted(distances.items())),
        behind=behind,
        behind_error=math.nan if entry is best else error,
    )


def _summary(scores: Sequence[Score]) -> Summary:
    regrets = np.array([s.regret for s in scores])
    missed = [abs(s.fraction - s.minimum) for s in scores if not math.isnan(s.minimum)]
    held = [s.held for s in scores if s.held is not None]
    losses = [s.loss_error for s in scores if not math.isnan(s.loss_error)]
    return Summary(
        curves=len(scores),
        mean_regret=float(regrets.mean()),
        median_regret=float(np.median(regrets)),
        worst_regret=float(regrets.max()),
        interior=len(missed),
        fraction_error=float(np.mean(missed)) if missed else math.nan,
        intervals=len(held),
        coverage=float(np.mean(held)) if held else math.nan,
        loss_error=float(np.mean(losses)) if losses else math.nan,
    )


def _behind(scores: Sequence[Score], best: Sequence[Score]) -> tuple[float, float]:
    """(mean difference of regrets, its standard error), seeds of a cell and its repetitions counting as one."""
    of_cell = defaultdict[int, list[float]](list)
    for s, b in zip(scores, best, strict=True):
        of_cell[s.cell].append(s.regret - b.regret)
    mean = float(np.mean([d for ds in of_cell.values() for d in ds]))
    # Clustered by cell: deviations of a cell's curves from the mean add up before they are squared.
    sums = np.array([sum(d - mean for d in ds) for ds in of_cell.values()])
    count, cells_ = len(scores), len(sums)
    if cells_ < 2:
        return mean, math.nan
    return mean, float(np.sqrt(np.sum(sums**2) * cells_ / (cells_ - 1)) / count)
