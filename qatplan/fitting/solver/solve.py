"""The global fit: many starts, all polished, and a certificate that says how far the result can be believed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qatplan.fitting.solver.newton import EXACT, Minima, minimise
from qatplan.fitting.solver.objective import Weighted, jacobian, shares
from qatplan.fitting.solver.problem import Problem
from qatplan.fitting.solver.starts import design
from qatplan.laws.fit_parts import Certificate
from qatplan.laws.fitted import Status
from qatplan.laws.inputs import Floats

AGREE = 1e-4
"""Starts agree when their objectives are within this share of the best one."""
ENOUGH = 3
"""So many starts must agree; with fewer, more are tried."""
_FIRST, _MOST = 16, 128
_MANY_ROWS, _SAMPLE = 5000, 2500
_CONVERGED = 1e-9
_SINGULAR = 1e-13


@dataclass(frozen=True, kw_only=True)
class Solution:
    """The best minimum found and what is known about it."""

    problem: Problem
    u: Floats
    objective: float
    certificate: Certificate
    """Its condition number leaves out coordinates at a bound."""
    information: Floats
    """(p, p) sum of outer products of log-prediction gradients in scaled coordinates."""
    at_bounds: tuple[str, ...]
    status: Status

    def theta(self) -> Floats:
        """The law's full coordinate vector."""
        return self.problem.theta(self.u)


def solve(problem: Problem, *, delta: float, seed: int, starts: int | None = None) -> Solution:
    """Minimise globally.

    Starts come in rounds until at least three agree on the best objective, at most 128 of them; `starts` fixes their
    number instead. Deterministic for a seed.
    """
    task = Weighted(problem=problem, weights=np.ones(len(problem.log_y)), log_y=problem.log_y)
    begin = design(task, starts or _MOST, seed)
    search = _search_all if len(problem.log_y) <= _MANY_ROWS else _search_thinned
    rounds = [len(begin)] if starts else [r for r in (_FIRST, 2 * _FIRST, 4 * _FIRST, len(begin)) if r <= len(begin)]
    found: Minima | None = None
    tried = agreeing = 0
    for upto in rounds:
        more = search(task, begin[tried:upto], delta)
        found = more if found is None else Minima.joined([found, more])
        tried = upto
        agreeing = int(np.sum(found.value <= _limit(task, found, AGREE)))
        if agreeing >= ENOUGH:
            break
    assert found is not None
    return _describe(task, found, tried, agreeing)


def deltas(delta: float) -> list[float]:
    """Huber deltas in turn: smooth first, then as asked."""
    return [d for d in (0.1, 0.01) if d > 3 * delta] + [delta]


def _limit(task: Weighted, found: Minima, share: float) -> float:
    return float(found.value.min()) * (1 + share) + 0.5 * EXACT**2 * float(task.weights.sum())


def _search_all(task: Weighted, begin: Floats, delta: float) -> Minima:
    """All starts on all rows; those that are unfinished but competitive get more iterations."""
    found = minimise(task, begin, deltas=deltas(delta), iterations=60)
    for again_round in range(8):
        # A start that has not converged and is near the best may still overtake it; the margin tightens.
        margin = 0.1 if again_round < 3 else 1e-3
        open_ends = np.flatnonzero((found.decrement > _CONVERGED) & (found.value <= _limit(task, found, margin)))
        if not open_ends.size:
            break
        again = minimise(task, found.u[open_ends], deltas=[delta], iterations=120)
        _replace(found, open_ends, again)
    return found


def _search_thinned(task: Weighted, begin: Floats, delta: float) -> Minima:
    """With very many rows: all starts on an even sample of rows, then every distinct end on all rows."""
    count = len(task.problem.log_y)
    rows = np.random.default_rng(count).choice(count, _SAMPLE, replace=False)
    rough = _search_all(_restricted(task, rows), begin, delta)
    order = np.argsort(rough.value)
    leaders: list[int] = []
    follows = np.zeros(len(begin), dtype=np.intp)
    for i in order:
        same = [j for j in leaders if abs(rough.value[i] - rough.value[j]) <= 1e-6 * rough.value[j]]
        if not same:
            leaders.append(int(i))
        follows[i] = leaders.index(same[0]) if same else len(leaders) - 1
    # Ends more than twice as bad on the sample cannot win on all rows; they stay what they are: starts that disagree.
    promising = [i for i in leaders if rough.value[i] <= 2.0 * rough.value[order[0]]]
    polished = minimise(task, rough.u[promising], deltas=[delta], iterations=120)
    found = replace(rough, value=np.full(len(begin), np.inf), decrement=np.full(len(begin), np.inf))
    for j, leader in enumerate(promising):
        for i in np.flatnonzero(follows == leaders.index(leader)):
            _replace(found, i, Minima(**{name: value[j] for name, value in vars(polished).items()}))
    return found


def _restricted(task: Weighted, rows: Any) -> Weighted:
    """The same task on some of its rows."""
    problem = task.problem
    blocks = tuple(
        replace(
            b,
            design=b.design[rows],
            present=b.present[rows],
            offset=b.offset[rows],
            bend=None if b.bend is None else replace(b.bend, factor=b.bend.factor.take(rows)),
        )
        for b in problem.blocks
    )
    products = {key: value[rows] for key, value in problem.products.items()}
    white = None if problem.whitening is None else problem.whitening.take(rows)
    small = replace(problem, blocks=blocks, products=products, log_y=problem.log_y[rows], whitening=white)
    return Weighted(problem=small, weights=task.weights[rows], log_y=small.log_y)


def _replace(found: Minima, at: Any, by: Minima) -> None:
    for name in ("u", "value", "gradient", "hessian", "decrement"):
        getattr(found, name)[at] = getattr(by, name)
    found.iterations[at] += by.iterations


def _vanished(problem: Problem, u: Floats) -> NDArray[np.bool_]:
    """True for amplitudes whose term is below a thousandth of every prediction: on their way to 0, if not there."""
    gone = np.zeros(problem.size, dtype=np.bool_)
    for block, share in zip(problem.blocks, shares(problem, u), strict=True):
        if block.amplitude is not None and float(share.max(initial=0.0)) < 1e-3:
            gone[block.index[block.amplitude]] = True
    return gone


def _describe(task: Weighted, found: Minima, tried: int, agreeing: int) -> Solution:
    best = int(np.argmin(found.value))
    problem, u, objective = task.problem, found.u[best], float(found.value[best])
    at_bound = (u <= problem.lower + 1e-9) | (u >= problem.upper - 1e-9)
    at_bound |= _vanished(problem, u)
    slopes = problem.whitened(jacobian(problem, u)[None])[0]
    information = (slopes * task.weights[:, None]).T @ slopes
    inside = np.flatnonzero(~at_bound)
    spectrum = np.linalg.eigvalsh(information[np.ix_(inside, inside)]) if inside.size else np.ones(1)
    ratio = float(spectrum[0] / spectrum[-1]) if spectrum[-1] > 0 else 0.0
    decrement = float(found.decrement[best])
    if ratio < _SINGULAR:
        status = Status.UNDETERMINED
    elif decrement > _CONVERGED:
        status = Status.NOT_CONVERGED
    elif agreeing < min(ENOUGH, tried):
        status = Status.STARTS_DISAGREE
    else:
        status = Status.GOOD
    floor = 0.5 * EXACT**2 * len(task.weights)
    names = tuple(p.name for p, hit in zip(problem.free, at_bound, strict=True) if hit)
    facts = Certificate(
        starts=tried,
        starts_agreeing=agreeing,
        agreement=f"objective within {AGREE:g} of the best, relative",
        share_agreeing=agreeing / tried,
        scaled_gradient=float(np.max(np.abs(found.gradient[best]), initial=0.0) / max(objective, floor)),
        newton_decrement=decrement,
        condition_number=1.0 / ratio if ratio > 0 else float("inf"),
        parameters_at_bounds=names,
    )
    return Solution(
        problem=problem, u=u, objective=objective, certificate=facts, information=information, at_bounds=names,
        status=status,
    )  # fmt: skip
