"""The best plan at one bit width: parameters, tokens and split within the budgets."""

from __future__ import annotations

import math

import numpy as np

from qatplan.errors import UsageError
from qatplan.laws.inputs import Floats
from qatplan.models.layout import Layout
from qatplan.planning.candidate import Candidate, candidate_at
from qatplan.planning.given_model import continue_training
from qatplan.planning.numeric import MOST_TOKENS, first_below, minimise, root_of_falling
from qatplan.planning.objective import Objective
from qatplan.planning.problem import Problem
from qatplan.planning.request import FULL_PRECISION, refuse_split
from qatplan.units import format_count

_MOST_FLOPS = 1e45
_LOGIT = 36.0


def solve(objective: Objective, problem: Problem, bits: float) -> Candidate:
    """The plan of lowest loss, or with a target loss of fewest FLOPs, at one bit width.

    Raises UsageError that says which budget makes it impossible.
    """
    if bits >= FULL_PRECISION and problem.continues:
        raise UsageError(
            f"bits is {bits:g}, which is full precision: the given model is there already; give bits below 16."
        )
    refuse_split(bits, problem.budgets.fraction)
    given = problem.given_params()
    if given is not None:
        problem.require_memory(given, bits)
    if problem.continues:
        return continue_training(objective, problem, bits)
    if problem.budgets.target_loss is not None:
        return _reach(objective, problem, bits, problem.budgets.target_loss)
    low, high = problem.params_range(bits)
    if low < high:
        low = _best_size(objective, problem, bits, low, high)[0]
    return _best_of_size(objective, problem, bits, low)


def _best_size(
    objective: Objective, problem: Problem, bits: float, low: float, high: float, rounds: int = 12
) -> tuple[float, float]:
    """(parameters between `low` and `high` of lowest loss within the token budgets, that loss)."""

    def at(log_n: Floats) -> Floats:
        return _losses(objective, problem, bits, np.exp(log_n))

    size, loss = minimise(at, math.log(low), math.log(high), rounds=rounds)
    # exp(log(high)) may exceed the memory by rounding.
    return min(math.exp(size), high), loss


def _losses(objective: Objective, problem: Problem, bits: float, params: Floats) -> Floats:
    """Best loss within the token budgets for each number of parameters."""
    if _split_matters(problem):
        return np.array([_best_of_size(objective, problem, bits, float(p)).loss for p in params])
    layouts = [problem.layout_of(float(p)) for p in params]
    n = np.array([objective.n(layout) for layout in layouts])
    tokens = np.array([min(problem.token_limits(layout, 0.0).values()) for layout in layouts])
    if problem.budgets.fraction is not None:
        return objective.loss(n, tokens, bits, problem.budgets.fraction)
    return objective.best(n, tokens, bits)[1]


def _split_matters(problem: Problem) -> bool:
    """True when a QAT token costs other than a full-precision one, so that the split moves the number of tokens."""
    given = problem.budgets
    return given.gpu_hours is not None and problem.training.slowdown != 1.0 and given.fraction is None


def _best_of_size(objective: Objective, problem: Problem, bits: float, params: float) -> Candidate:
    """The best plan for a number of parameters."""
    layout = problem.layout_of(params)
    fraction = problem.budgets.fraction
    if fraction is None and _split_matters(problem) and objective.sees_fraction and bits < FULL_PRECISION:
        fraction = _best_split(objective, problem, bits, layout)
    elif fraction is None:
        tokens = min(problem.token_limits(layout, 1.0).values())
        fraction = float(objective.best(objective.n(layout), tokens, bits)[0][0])
    tokens = min(problem.token_limits(layout, fraction).values())
    return candidate_at(objective, problem, bits, layout, d_fp=tokens * (1.0 - fraction), d_qat=tokens * fraction)


def _best_split(objective: Objective, problem: Problem, bits: float, layout: Layout) -> float:
    """The fraction when tokens = tokens(fraction), by search in logit(fraction)."""

    def at(logit: Floats) -> Floats:
        fraction = 1.0 / (1.0 + np.exp(-logit))
        tokens = np.array([min(problem.token_limits(layout, float(f)).values()) for f in fraction])
        return objective.loss(objective.n(layout), tokens, bits, fraction)

    return float(1.0 / (1.0 + math.exp(-minimise(at, -_LOGIT, _LOGIT)[0])))


def _reach(objective: Objective, problem: Problem, bits: float, target: float) -> Candidate:
    """The plan with the fewest FLOPs whose predicted loss is at most the target."""
    low, high = problem.params_range(bits)
    params = low if low == high else _cheapest_size(objective, problem, bits, target, low, high)
    layout = problem.layout_of(params)
    n, fraction = objective.n(layout), problem.budgets.fraction
    goal, most = target * (1.0 + 1e-12), math.log(MOST_TOKENS)
    if fraction is None:
        reached = objective.log_tokens_at_best(n, bits, goal, 0.0, most)
    else:
        share = fraction
        reached = first_below(lambda log_tokens: objective.loss(n, np.exp(log_tokens), bits, share), goal, 0.0, most)
    if reached is None:
        raise UsageError(
            f"target loss {target:g} is out of reach at {bits:g} bits: no number of tokens gets there with "
            f"{format_count(layout.parameters)} parameters."
        )
    tokens = math.exp(reached)
    if fraction is None:
        fraction = float(objective.best(n, tokens, bits)[0][0])
    problem.require_tokens(layout, bits, tokens, fraction)
    return candidate_at(objective, problem, bits, layout, d_fp=tokens * (1 - fraction), d_qat=tokens * fraction)


def _cheapest_size(
    objective: Objective, problem: Problem, bits: float, target: float, low: float, high: float
) -> float:
    """Parameters that reach the target with the fewest FLOPs: the size that is best at the FLOPs that just suffice."""
    sizes: dict[float, float] = {}

    def best_loss(log_flops: float, *, rounds: int = 12) -> float:
        """Lowest loss over sizes with so many FLOPs, within the token budget."""
        limited = problem.with_budgets(flops=math.exp(log_flops), gpu_hours=None, target_loss=None)
        sizes[log_flops], loss = _best_size(objective, limited, bits, low, high, rounds)
        return loss

    fewest, most = math.log(problem.training.flops_per_token(problem.layout_of(low))), math.log(_MOST_FLOPS)
    if best_loss(most) > target:
        with_memory = " that the memory allows" if problem.budgets.memory is not None else ""
        raise UsageError(
            f"target loss {target:g} is out of reach at {bits:g} bits: no size{with_memory} and no number of tokens "
            "within the budget gets there."
        )
    # A coarse look at sizes overstates the loss a little, so its bracket is widened downwards until it holds.
    below, above = fewest, most
    while above - below > 2.0:
        middle = 0.5 * (below + above)
        below, above = (below, middle) if best_loss(middle, rounds=1) <= target else (middle, above)
    while below > fewest and best_loss(below) <= target:
        below = max(below - 2.0, fewest)
    if best_loss(below) <= target:
        return sizes[below]
    found = root_of_falling(best_loss, target, below, above)
    if found not in sizes:
        best_loss(found)
    return sizes[found]
