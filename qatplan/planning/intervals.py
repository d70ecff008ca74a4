"""How sure a plan is: intervals and probabilities from a fit's parameter draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from qatplan.laws import FittedLaw, Inputs, optimal_fraction
from qatplan.laws.inputs import Floats
from qatplan.laws.predictor import Predictor
from qatplan.planning.candidate import Candidate
from qatplan.planning.objective import Objective

Interval = tuple[float, float]


def draws_of(fit: FittedLaw, level: float) -> Predictor | None:
    """The fit's draws, which give intervals at `level`; None for a fit without draws."""
    if fit.draws is None or len(fit.draws) == 0:
        return None
    return fit.predictor(level)


def theta(draws: Predictor) -> Floats:
    """(draws, parameters) fitting coordinates; without draws the law's own."""
    return draws.law.coordinates()[None, :] if draws.draws is None else draws.draws


def thinned(draws: Predictor, most: int) -> Predictor:
    """Every so many of the draws, about `most` of them."""
    vectors = theta(draws)
    return replace(draws, draws=vectors[:: max(1, len(vectors) // most)])


def drawn_best(
    draws: Predictor, objective: Objective, *, n: ArrayLike, d_total: ArrayLike, bits: ArrayLike
) -> tuple[Floats, Floats]:
    """(fraction, loss), each (draws, points), at the best split of each draw; fraction 1 for a law without a split."""
    if objective.sees_fraction:
        best = optimal_fraction(draws.law, n=n, d_total=d_total, bits=bits, draws=theta(draws))
        return best.fraction, best.loss
    loss = draws.drawn(Inputs.of(n=n, d_total=d_total, bits=bits, fraction=1.0))
    return np.ones_like(loss), loss


def pairs(ends: tuple[Floats, Floats]) -> list[Interval]:
    """(low, high) of each point from the arrays of both."""
    return [(float(low), float(high)) for low, high in zip(*ends, strict=True)]


def loss_intervals(draws: Predictor | None, x: Inputs) -> tuple[Interval | None, Interval | None]:
    """(interval of the mean loss at a point, interval of one new run there), nats per token.

    The second is None for a fit that does not know how far single runs scatter; both are without draws.
    """
    if draws is None:
        return None, None
    drawn = draws.drawn(x)
    run = pairs(draws.interval_of_runs(drawn))[0] if math.isfinite(draws.noise) else None
    return pairs(draws.interval(drawn))[0], run


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """What the draws say of one candidate; every field is None for a fit without draws."""

    loss: Interval | None = None
    """Confidence interval of its mean loss, nats per token."""
    fraction: Interval | None = None
    """Interval of its optimal fraction; None for a law without a split, and where the split was not free."""
    share_best: float | None = None
    """Share of the draws in which it has the lowest loss, its split chosen anew in each draw."""
    better_than_best: float | None = None
    """Share of the draws in which it beats the first candidate."""


def assess(
    draws: Predictor | None, objective: Objective, candidates: Sequence[Candidate], *, free_split: bool
) -> list[Doubt]:
    """What the draws say of each candidate, the best one first.

    `free_split` False keeps every candidate's split as it is (given by the user or by a given full-precision model).
    """
    if draws is None:
        return [Doubt() for _ in candidates]
    names = ("n", "d_fp", "d_qat", "bits")
    x = Inputs.of(**{name: [float(getattr(c.x, name)[0]) for c in candidates] for name in names})
    drawn = table = draws.drawn(x)
    fractions: list[Interval | None] = [None] * len(candidates)
    if objective.sees_fraction and free_split and np.any(x.quantized):
        # The split is chosen anew in each draw.
        split, table = np.flatnonzero(x.quantized), drawn.copy()
        at = x.take(split)
        best, table[:, split] = drawn_best(draws, objective, n=at.n, d_total=at.d_total, bits=at.bits)
        for i, interval in zip(split, pairs(draws.interval(best)), strict=True):
            fractions[i] = interval
    winner, losses = np.argmin(table, axis=1), pairs(draws.interval(drawn))
    return [
        Doubt(
            loss=loss,
            fraction=fraction,
            share_best=float(np.mean(winner == i)),
            better_than_best=float(np.mean(table[:, i] < table[:, 0])),
        )
        for i, (loss, fraction) in enumerate(zip(losses, fractions, strict=True))
    ]
