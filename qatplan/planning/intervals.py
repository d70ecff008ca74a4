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


def loss_intervals(draws: Predictor | None, x: Inputs) -> tuple[tuple[Interval, ...] | None, Interval | None]:
    """(interval of the mean loss at each point, interval of one new run at the first), nats per token.

    The second is None for a fit that does not know how far single runs scatter; both are without draws.
    """
    if draws is None:
        return None, None
    drawn = draws.drawn(x)
    low, high = draws.interval(drawn)
    run: Interval | None = None
    if math.isfinite(draws.noise):
        least, most = draws.interval_of_runs(drawn[:, 0])
        run = float(least), float(most)
    return tuple((float(a), float(b)) for a, b in zip(low, high, strict=True)), run


@dataclass(frozen=True, kw_only=True)
class Uncertainty:
    """What the draws say; every field is None for a fit without draws."""

    loss: tuple[Interval, ...] | None = None
    """Confidence interval of each candidate's mean loss, nats per token."""
    new_run: Interval | None = None
    """Interval for the loss of one new run of the best candidate: the draws and the scatter of single runs."""
    fraction: tuple[Interval, ...] | None = None
    """Interval of each candidate's optimal fraction; None for a law without a split."""
    share_best: tuple[float, ...] | None = None
    """Share of the draws in which each candidate has the lowest loss, its split chosen anew in each draw."""
    better_than_best: tuple[float, ...] | None = None
    """Share of the draws in which each candidate beats the first one."""


def assess(
    draws: Predictor | None, objective: Objective, candidates: Sequence[Candidate], *, free_split: bool
) -> Uncertainty:
    """Uncertainty of the candidates, the best one first.

    `free_split` False keeps every candidate's split as it is (given by the user or by a given full-precision model).
    """
    if draws is None:
        return Uncertainty()
    x = Inputs.of(
        n=[c.n for c in candidates],
        d_fp=[c.d_fp for c in candidates],
        d_qat=[c.d_qat for c in candidates],
        bits=[c.bits for c in candidates],
    )
    loss, new_run = loss_intervals(draws, x)
    fraction: tuple[Interval, ...] | None = None
    if objective.sees_fraction and free_split:
        # The split is chosen anew in each draw.
        fractions, table = drawn_best(draws, objective, n=x.n, d_total=x.d_total, bits=x.bits)
        fraction = tuple((float(a), float(b)) for a, b in zip(*draws.interval(fractions), strict=True))
    else:
        table = draws.drawn(x)
    winner = np.argmin(table, axis=1)
    return Uncertainty(
        loss=loss,
        new_run=new_run,
        fraction=fraction,
        share_best=tuple(float(np.mean(winner == i)) for i in range(len(candidates))),
        better_than_best=tuple(float(np.mean(table[:, i] < table[:, 0])) for i in range(len(candidates))),
    )
