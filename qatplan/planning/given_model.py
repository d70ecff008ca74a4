"""QAT of a given full-precision model: how many QAT tokens the budget pays, and how many pay at all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from qatplan.errors import UsageError
from qatplan.laws.inputs import Floats
from qatplan.planning.candidate import Candidate, candidate_at
from qatplan.planning.numeric import MOST_TOKENS, first_below
from qatplan.planning.objective import Objective
from qatplan.planning.problem import Problem

WORTHWHILE: Final = 1e-3
"""Relative gain in loss per doubling of QAT tokens below which more of them are said not to pay."""


def continue_training(objective: Objective, problem: Problem, bits: float) -> Candidate:
    """QAT tokens for a given full-precision model: all that the budget pays, or as many as reach the target."""
    if not objective.sees_fraction:
        raise UsageError(f"law {objective.law.name} knows no full-precision phase, so it cannot plan a continuation.")
    layout = problem.layout_of(problem.given_params() or math.nan)
    n, given, target = objective.n(layout), problem.budgets.fp_tokens or math.nan, problem.budgets.target_loss
    if target is None:
        d_qat = min(problem.token_limits(layout, 1.0).values(), default=math.inf)
        if not math.isfinite(d_qat):
            # Beyond the balance more QAT tokens still gain, but as they would in any longer training.
            d_qat = min(f(objective, n, given, bits) for f in (worthwhile_qat_tokens, balanced_qat_tokens))
        if not math.isfinite(d_qat):
            raise UsageError("nothing bounds the QAT tokens, which always pay under this law; give tokens or flops.")
        return candidate_at(objective, problem, bits, layout, d_fp=given, d_qat=d_qat)

    def loss(log_tokens: Floats) -> Floats:
        return objective.loss_of_phases(n, given, np.exp(log_tokens), bits)

    reached = first_below(loss, target, 0.0, math.log(MOST_TOKENS))
    if reached is None:
        raise UsageError(
            f"target loss {target:g} is out of reach at {bits:g} bits: no number of QAT tokens gets there from this "
            "full-precision model."
        )
    d_qat = math.exp(reached)
    problem.require_tokens(layout, bits, d_qat, 1.0)
    return candidate_at(objective, problem, bits, layout, d_fp=given, d_qat=d_qat)


def worthwhile_qat_tokens(objective: Objective, n: float, d_fp: float, bits: float) -> float:
    """QAT tokens at which another doubling lowers the loss by less than the share `WORTHWHILE` of it.

    At least the smallest fraction that was fitted: below it the law was never held against a run.
    """

    def relative_gain(log_tokens: Floats) -> Floats:
        first = objective.loss_of_phases(n, d_fp, np.exp(log_tokens), bits)
        second = objective.loss_of_phases(n, d_fp, 2.0 * np.exp(log_tokens), bits)
        return (first - second) / first

    # The gain falls with the tokens once the steep start is over; one token is always too few.
    found = first_below(relative_gain, WORTHWHILE, math.log(least_qat_tokens(objective, d_fp)), math.log(MOST_TOKENS))
    return math.inf if found is None else math.exp(found)


def least_qat_tokens(objective: Objective, d_fp: float) -> float:
    """QAT tokens after `d_fp` at the smallest fraction that was fitted."""
    return max(d_fp * objective.least_fraction / (1.0 - objective.least_fraction), 1.0)


def balanced_qat_tokens(objective: Objective, n: float, d_fp: float, bits: float) -> float:
    """QAT tokens for which the given full-precision tokens are just the best share of the total; infinity for none."""

    def too_little(log_tokens: Floats) -> Floats:
        """Best share minus the share these QAT tokens have; falls through 0 at balance."""
        d_qat = np.exp(log_tokens)
        return objective.best(n, d_fp + d_qat, bits)[0] - d_qat / (d_fp + d_qat)

    start = math.log(d_fp)
    found = first_below(too_little, 0.0, start - 20.0, start + 40.0)
    return math.exp(found) if found is not None else math.inf


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """QAT of a given full-precision model."""

    fp_tokens: float
    qat_tokens: float
    worthwhile_qat_tokens: float | None
    """Beyond these, doubling the QAT tokens lowers the loss by less than 0.1 %; None when every doubling pays."""
    balanced_qat_tokens: float | None
    """QAT tokens for which the given full-precision tokens are just the best share of the total."""
    none_pays: bool
    """Whether not even the fewest tokens that the law was fitted on pay."""
    full_precision_loss: float
    """Of the given model, as the law predicts it."""
    curve: tuple[tuple[float, float], ...]
    """(QAT tokens, predicted loss) around the plan."""
    rule: str = (
        f"worthwhile: until doubling the QAT tokens gains less than {100 * WORTHWHILE:g} % of the loss; balanced: "
        "where the given full-precision tokens are the best share of the total"
    )


def continuation(objective: Objective, plan: Candidate) -> Continuation:
    """How many QAT tokens pay for the given model."""
    worthwhile = worthwhile_qat_tokens(objective, plan.n, plan.d_fp, plan.bits)
    balanced = balanced_qat_tokens(objective, plan.n, plan.d_fp, plan.bits)
    grid = plan.d_qat * 2.0 ** np.arange(-5.0, 6.0)
    losses = objective.loss_of_phases(plan.n, plan.d_fp, grid, plan.bits)
    return Continuation(
        fp_tokens=plan.d_fp,
        qat_tokens=plan.d_qat,
        worthwhile_qat_tokens=worthwhile if math.isfinite(worthwhile) else None,
        balanced_qat_tokens=balanced if math.isfinite(balanced) else None,
        none_pays=worthwhile <= least_qat_tokens(objective, plan.d_fp) * (1 + 1e-9),
        full_precision_loss=objective.full_precision(plan.n, plan.d_fp),
        curve=tuple((float(a), float(b)) for a, b in zip(grid, losses, strict=True)),
    )
