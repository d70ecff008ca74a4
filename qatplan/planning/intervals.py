"""How sure a plan is: intervals and probabilities from a fit's parameter draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qatplan.laws import FittedLaw, Inputs, optimal_fraction
from qatplan.laws.inputs import Floats
from qatplan.laws.law import predict_many
from qatplan.laws.quantiles import quantiles, quantiles_of_runs
from qatplan.planning.candidate import Candidate
from qatplan.planning.objective import Objective

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Uncertainty:
    """What the draws say; every field is None for a fit without draws."""

    loss: tuple[Interval, ...] | None
    """Confidence interval of each candidate's mean loss, nats per token."""
    new_run: Interval | None
    """Interval for the loss of one new run of the best candidate: the draws and the scatter of single runs."""
    fraction: tuple[Interval, ...] | None
    """Interval of each candidate's optimal fraction; None for a law without a split."""
    share_best: tuple[float, ...] | None
    """Share of the draws in which each candidate has the lowest loss, its split chosen anew in each draw."""
    better_than_best: tuple[float, ...] | None
    """Share of the draws in which each candidate beats the first one."""
    draws: int
    """Draws behind all of it."""


NOTHING = Uncertainty(loss=None, new_run=None, fraction=None, share_best=None, better_than_best=None, draws=0)


def assess(
    fit: FittedLaw, objective: Objective, candidates: Sequence[Candidate], *, level: float, free_split: bool
) -> Uncertainty:
    """Uncertainty of the candidates, the best one first.

    `free_split` False keeps every candidate's split as it is (given by the user or by a given full-precision model).
    """
    if fit.draws is None or len(fit.draws) == 0:
        return NOTHING
    theta = fit.draw_coordinates()
    x = Inputs.of(
        n=[c.n for c in candidates],
        d_fp=[c.d_fp for c in candidates],
        d_qat=[c.d_qat for c in candidates],
        bits=[c.bits for c in candidates],
    )
    tail = [0.5 * (1.0 - level), 0.5 * (1.0 + level)]
    fixed = predict_many(objective.law, theta, x)
    loss = tuple((float(a), float(b)) for a, b in quantiles(fixed, tail).T)
    fraction: tuple[Interval, ...] | None = None
    table = fixed
    if objective.sees_fraction and free_split:
        # The split is chosen anew in each draw.
        best = optimal_fraction(objective.law, n=x.n, d_total=x.d_total, bits=x.bits, draws=theta)
        fraction = tuple((float(a), float(b)) for a, b in quantiles(best.fraction, tail).T)
        table = best.loss
    winner = np.argmin(table, axis=1)
    return Uncertainty(
        loss=loss,
        new_run=_with_scatter(fixed[:, 0], fit.noise, tail),
        fraction=fraction,
        share_best=tuple(float(np.mean(winner == i)) for i in range(len(candidates))),
        better_than_best=tuple(float(np.mean(table[:, i] < table[:, 0])) for i in range(len(candidates))),
        draws=theta.shape[0],
    )


def _with_scatter(losses: Floats, noise: float, tail: list[float]) -> Interval | None:
    """Interval of one new run: the draws, each with the scatter of single runs about the law (log-normal)."""
    if not math.isfinite(noise):
        return None
    low, high = quantiles_of_runs(losses, noise, tail)
    return float(low), float(high)
