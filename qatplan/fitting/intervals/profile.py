"""Profile-likelihood intervals: how far each parameter can move before the best fit with it there becomes too bad."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtrit

from qatplan.fitting.intervals.trunk_effects import FEW_TRUNKS, variance_components
from qatplan.fitting.rows import Rows
from qatplan.fitting.solver.newton import minimise
from qatplan.fitting.solver.objective import Weighted, jacobian, residuals
from qatplan.fitting.solver.problem import build
from qatplan.fitting.solver.solve import Solution
from qatplan.laws.fit_parts import Pair
from qatplan.laws.inputs import Floats
from qatplan.laws.law import natural

_POINTS = 14


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What turns a rise of the Huber objective into a chi-square: a sandwich, since Huber terms are no likelihood."""

    covariance: Floats
    """(p, p) sandwich covariance of the scaled coordinates."""
    bread: Floats
    """(p, p) inverse of the expected hessian."""
    freedom: Floats
    """(p,) degrees of freedom that speak about each variance; infinite unless effects of few trunks are part of it."""
    curvature: float
    """Expected curvature of a row's Huber term."""
    trunk_effect: float
    """Standard deviation of the effects of few trunks; 0 where none shows, or trunks are many."""


def calibrate(solution: Solution, rows: Rows, delta: float) -> Calibration:
    """Sandwich covariance, clustered by trunk where 20 or more trunks carry the rows.

    A sandwich of fewer knows next to nothing, so there the covariance of the trunk effects
    (`qatplan.fitting.intervals.trunk_effects`) is added to that of independent rows; Satterthwaite's approximation
    (Biometrics 2, 1946) gives the degrees of freedom of the sum.

    The expected curvature of a Huber term is the chance of a residual within delta; it is estimated over a window of
    at least 0.3 standard deviations, because few residuals are that small where delta is far below the noise.
    """
    problem, u = solution.problem, solution.u
    slopes = problem.whitened(jacobian(problem, u)[None])[0]
    n, p = slopes.shape
    r = problem.whitened(residuals(problem, u[None, :]))[0] * np.sqrt(n / max(n - p, 1))
    inside = [i for i, name in enumerate(problem.free) if name.name not in solution.at_bounds]
    sd = 1.4826 * float(np.median(np.abs(r)))
    window = max(delta, 0.3 * sd, 1e-12)
    curvature = max(float(np.mean(np.abs(r) <= window)) * min(1.0, delta / window), 1.0 / n)
    score = np.clip(r, -delta, delta)[:, None] * slopes
    clusters = int(rows.cluster.max()) + 1
    if rows.clustered and clusters >= FEW_TRUNKS:
        score = by_trunk(score, rows) * np.sqrt(clusters / (clusters - 1))
    bread, covariance = np.zeros((p, p)), np.zeros((p, p))
    cells = np.ix_(inside, inside)
    bread[cells] = np.linalg.pinv(curvature * (slopes.T @ slopes)[cells], hermitian=True)
    covariance[cells] = bread[cells] @ (score.T @ score)[cells] @ bread[cells]
    freedom, trunk_effect = np.full(p, np.inf), 0.0
    if rows.clustered and clusters < FEW_TRUNKS:
        components = variance_components(-residuals(problem, u[None, :])[0], rows, slopes)
        # A row counts by its slope times the expected curvature, which the bread takes out again.
        shared = components.trunk_effect * curvature * by_trunk(slopes, rows) @ bread
        trunk_effect = components.trunk_effect
        covariance += shared.T @ shared
        share = np.sum(shared**2, axis=0) / np.maximum(np.diag(covariance), np.finfo(float).tiny)
        # Without a variance of its own, at a bound, a coordinate has the others' freedom and the effects'.
        share[[i for i in range(p) if i not in inside]] = float(trunk_effect > 0)
        freedom = components.freedom / np.maximum(share, 1e-9) ** 2
    return Calibration(
        covariance=covariance, bread=bread, freedom=freedom, curvature=curvature, trunk_effect=trunk_effect
    )


def by_trunk(values: Floats, rows: Rows) -> Floats:
    """(trunks, p): sums of (rows, p) over the runs of each trunk."""
    summed = np.zeros((int(rows.cluster.max()) + 1, values.shape[1]))
    np.add.at(summed, rows.cluster, values)
    return summed


def intervals(solution: Solution, rows: Rows, *, delta: float, level: float) -> dict[str, Pair]:
    """(low, high) of every fitted parameter in natural units; an end that is not reached within its bounds is open.

    An open end is the parameter's bound: 0 or the largest allowed value.
    """
    result: dict[str, Pair] = {}
    every = solution.problem.law.parameters()
    names = [p.name for p in every]
    for j, parameter in enumerate(solution.problem.free):
        ends = []
        for end in _interval(solution, rows, j, delta, level):
            # A factor's coordinate holds its exponent too, which stays as it was fitted.
            theta = solution.theta()
            theta[names.index(parameter.name)] = end
            ends.append(natural(every, theta)[parameter.name])
        result[parameter.name] = (min(ends), max(ends))
    return result


def _interval(solution: Solution, rows: Rows, j: int, delta: float, level: float) -> Pair:
    """Interval of one fitting coordinate."""
    base = solution.problem
    amplitude = base.free[j].scales
    problem = base
    if amplitude:
        alone = build(base.law, rows.x, rows.y, fixed=base.fixed, uncentred=base.free[j].name)
        problem = replace(alone, whitening=base.whitening)
    u = problem.scaled(solution.theta()) if amplitude else solution.u
    calibration = calibrate(replace(solution, problem=problem, u=u), rows, delta)
    bread, variance = float(calibration.bread[j, j]), float(calibration.covariance[j, j])
    wanted = float(stdtrit(calibration.freedom[j], 0.5 + level / 2))
    scale = float(problem.to_u[j, j])
    direction = calibration.bread[:, j] / bread if bread > 0 else np.eye(problem.size)[j]
    if bread <= 0 or variance <= 0:
        # At a bound: no curvature of its own, so the other coordinates' calibration and a generous first step serve.
        inner = np.diag(calibration.bread) > 0
        ratios = np.diag(calibration.covariance)[inner] / np.diag(calibration.bread)[inner]
        inflation = float(np.median(ratios)) if ratios.size else delta**2
        sd = 2.0 * abs(problem.scaled(solution.theta())[j]) + 1.0
    else:
        inflation, sd = variance / bread, float(np.sqrt(variance))
    task = Weighted(problem=problem, weights=np.ones(len(rows)), log_y=problem.log_y, pinned=j)

    def end(sign: float) -> float:
        """Where the profile crosses the wanted root on one side, or the bound if it does not reach it."""
        bound = float(problem.lower[j] if sign < 0 else problem.upper[j])
        room = abs(bound - float(u[j]))
        if room <= 1e-9:
            return float(u[j])

        def roots(distances: Floats) -> Floats:
            """Square root of the calibrated rise of the profile at each distance."""
            shifts = sign * distances
            start = np.clip(u[None, :] + shifts[:, None] * direction[None, :], problem.lower, problem.upper)
            start[:, j] = np.clip(u[j] + shifts, problem.lower[j], problem.upper[j])
            found = minimise(task, start, deltas=[delta], tolerance=1e-9)
            rise: Floats = np.sqrt(2.0 * np.maximum(found.value - solution.objective, 0.0) / inflation)
            return np.maximum.accumulate(rise)

        distance = _crossing(roots, wanted, 1.6 * wanted * sd, room)
        return bound if distance is None else float(u[j] + sign * distance)

    return end(-1.0) / scale, end(1.0) / scale


def _crossing(roots: Callable[[Floats], Floats], wanted: float, reach: float, room: float) -> float | None:
    """The distance within `room` at which `roots` reach the wanted one, searched for up to `reach` first; else None."""
    below, root_below, reach = 0.0, 0.0, min(reach, room)
    for _ in range(8):
        distances = np.linspace(below, reach, _POINTS + 1)[1:]
        z = roots(distances)
        above = np.flatnonzero(z >= wanted)
        if above.size:
            k = int(above[0])
            if k > 0:
                below, root_below = float(distances[k - 1]), float(z[k - 1])
            finer = np.linspace(below, distances[k], 8)[1:-1]
            z_finer = np.concatenate([[root_below], roots(finer), [z[k]]])
            at = np.concatenate([[below], finer, [distances[k]]])
            return float(np.interp(wanted, np.maximum.accumulate(z_finer), at))
        below, root_below = float(distances[-1]), float(z[-1])
        if below >= room * (1 - 1e-12):
            break
        reach = min(4 * reach, room)
    return None
