"""How sure the tokens are that quantized training needs to match full precision."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from qatplan.laws import FittedLaw, Inputs, optimal_fraction
from qatplan.laws.inputs import Floats
from qatplan.laws.law import predict_many
from qatplan.laws.quantiles import quantiles
from qatplan.planning.candidate import Candidate
from qatplan.planning.objective import Objective

_LEAST, _MOST, _POINTS = 1e-2, 1e6, 65
_DRAWS: Final = 250

Bounds = tuple[float, float | None]


def matching_interval(
    fit: FittedLaw, objective: Objective, plan: Candidate, *, level: float
) -> tuple[Bounds | None, float | None]:
    """Interval of the tokens at which the plan's bit width reaches full precision's loss, and the share of "never".

    In each draw the full-precision loss at the plan's tokens is held against the loss at the best split over a grid of
    tokens, 0.01 to 1e6 times the plan's, and crossed by straight lines in log tokens. Draws that do not get there count
    as never; an upper end among them is None. (None, None) for a fit without draws.
    """
    if fit.draws is None or len(fit.draws) == 0:
        return None, None
    theta = fit.draw_coordinates()[:: max(1, len(fit.draws) // _DRAWS)]
    log_tokens = math.log(plan.tokens) + np.linspace(math.log(_LEAST), math.log(_MOST), _POINTS)
    tokens = np.exp(log_tokens)
    target = predict_many(objective.law, theta, Inputs.of(n=plan.n, d_total=plan.tokens))
    if objective.sees_fraction:
        loss = optimal_fraction(objective.law, n=plan.n, d_total=tokens, bits=plan.bits, draws=theta).loss
    else:
        loss = predict_many(objective.law, theta, Inputs.of(n=plan.n, d_total=tokens, bits=plan.bits, fraction=1.0))
    crossed = _crossings(log_tokens, loss - target)
    never = float(np.mean(np.isinf(crossed)))
    # A finite stand-in keeps the interpolation between quantiles finite; what reaches it is never.
    beyond = log_tokens[-1] + 1.0
    low, high = quantiles(np.minimum(crossed, beyond), [0.5 * (1.0 - level), 0.5 * (1.0 + level)])
    if low > log_tokens[-1]:
        return None, never
    return (float(np.exp(low)), float(np.exp(high)) if high <= log_tokens[-1] else None), never


def _crossings(x: Floats, gap: Floats) -> Floats:
    """(draws,): first x at which each row of `gap` is 0 or less; infinity where it never is."""
    reached = gap <= 0
    i = np.argmax(reached, axis=1)
    rows = np.arange(len(gap))
    before = np.maximum(i - 1, 0)
    first, last = gap[rows, before], gap[rows, i]
    share = np.where(i > 0, first / np.where(first > last, first - last, 1.0), 0.0)
    result: Floats = np.where(reached.any(axis=1), x[before] + share * (x[i] - x[before]), np.inf)
    return result
