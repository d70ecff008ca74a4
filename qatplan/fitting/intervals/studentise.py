"""The studentised bootstrap: distances of draws from the estimate, counted in standard deviations of estimates.

A law is not linear: where a draw lies, estimates may scatter less or more than at the estimate itself. A draw from
where they scatter little is farther from the estimate than it looks, and is moved outwards; one from where they scatter
widely is moved inwards. So the studentised bootstrap does for one number (Davison and Hinkley, Bootstrap Methods and
their Application, 1997, section 5.2.1); here it is done for the whole vector, with one factor for each draw, which
stays on its side of the estimate. It is moved in fitted losses: parameters that trade off lie in a curved valley, which
a straight line between two of them leaves, to where the law fits nothing.
"""

from __future__ import annotations

import numpy as np

from qatplan.fitting.intervals.trunk_effects import VarianceComponents
from qatplan.fitting.rows import Rows
from qatplan.fitting.solver.newton import minimise
from qatplan.fitting.solver.objective import Weighted, jacobians, residuals
from qatplan.fitting.solver.problem import Problem
from qatplan.laws.inputs import Floats

_FARTHEST = 2.0
"""By how much a distance is stretched, or shortened, at most: linear errors say nothing about what is farther off."""
_RIDGE = 1e-12
_SQUARES = 0.1
"""Huber's delta, beyond all differences of log losses between draws: least squares."""
_TOLERANCE = 1e-9
_CELLS = 500_000  # of Jacobians held at once


def studentised(problem: Problem, rows: Rows, components: VarianceComponents, u: Floats, drawn: Floats) -> Floats:
    """The draws (count, p) about the estimate u (p,), each moved nearer to it or farther off; scaled coordinates.

    A moved draw has the fitted log losses, as nearly as the law can, that lie on the line between the draw's and the
    estimate's. The mean of the factors is 1: what the draws say about the size of the scatter stays.
    """
    step = drawn - u
    here, there = _distances(problem, rows, components, u[None, :], step), np.empty(len(drawn))
    size = max(1, _CELLS // (len(rows) * problem.size))
    for begin in range(0, len(drawn), size):
        part = slice(begin, begin + size)
        there[part] = _distances(problem, rows, components, drawn[part], step[part])
    factor = np.ones(len(drawn))
    known = (here > 0) & (there > 0)
    factor[known] = np.clip(there[known] / here[known], 1 / _FARTHEST, _FARTHEST)
    return _rescaled(problem, u, drawn, factor / factor.mean())


def _rescaled(problem: Problem, u: Floats, drawn: Floats, factor: Floats) -> Floats:
    """The draws whose log losses differ `factor` (count,) times as much from the estimate's, by least squares."""
    fitted, weights = residuals(problem, u[None, :]), np.ones(len(problem.log_y))
    rescaled = np.empty_like(drawn)
    size = max(1, _CELLS // len(weights))
    for begin in range(0, len(drawn), size):
        part = slice(begin, begin + size)
        change = residuals(problem, drawn[part]) - fitted
        target = problem.log_y + fitted + factor[part, None] * change
        task = Weighted(problem=problem, weights=weights, log_y=target)
        rescaled[part] = minimise(task, drawn[part], deltas=[_SQUARES], tolerance=_TOLERANCE).u
    return rescaled


def _distances(problem: Problem, rows: Rows, components: VarianceComponents, at: Floats, step: Floats) -> Floats:
    """Length of each step (k, p), in standard deviations of what least-squares estimates would be at (k or 1, p).

    That is Mahalanobis' distance. With J the Jacobian and Z the runs of each trunk, estimates have the covariance
    (J'J)^-1 M (J'J)^-1, M = own^2 J'J + trunk_effect^2 J'Z Z'J.
    """
    slopes = problem.whitened(jacobians(problem, at))
    information = slopes.transpose(0, 2, 1) @ slopes
    middle = float(np.nanmean(components.own**2)) * information
    if components.trunk_effect > 0:
        member = np.equal.outer(np.arange(int(rows.cluster.max()) + 1), rows.cluster).astype(np.float64)
        shared = member @ slopes
        middle = middle + components.trunk_effect**2 * shared.transpose(0, 2, 1) @ shared
    least = _RIDGE * np.trace(middle, axis1=1, axis2=2) + np.finfo(float).tiny
    middle = middle + least[:, None, None] * np.eye(problem.size)
    pushed = information @ step[:, :, None]
    squares = (pushed.transpose(0, 2, 1) @ np.linalg.solve(middle, pushed))[:, 0, 0]
    return np.sqrt(np.maximum(squares, 0.0))
