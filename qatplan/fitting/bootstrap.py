"""Bootstrap draws of the parameters, each refitted to the end from the optimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qatplan.fitting.newton import minimise
from qatplan.fitting.objective import Weighted, jacobian, residuals
from qatplan.fitting.profile import calibrate
from qatplan.fitting.rows import Rows
from qatplan.fitting.solve import Solution
from qatplan.laws.inputs import Floats

FEW_CLUSTERS = 20
"""With fewer trunks, drawing whole trunks leaves sizes out of many draws, so residuals are resampled instead."""

MANY_ROWS = 5000
"""With more rows, draws are single Newton steps from the optimum."""
_CELLS = 2_000_000

Kind = Literal["case", "residual", "score"]


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Fitting coordinates (draws, parameters) and how they were made."""

    theta: Floats
    kind: Kind
    clusters: int
    unfinished: int
    """Draws whose minimisation did not end at a small decrement; they are kept, as far as they came."""


def draw(
    solution: Solution, rows: Rows, *, count: int, seed: int, delta: float, kind: Kind | None = None, workers: int = 1
) -> Draws:
    """Resample and refit `count` times, warm-started.

    *case*: whole clusters (trunks, or runs where no trunk is shared) are drawn with replacement.
    *residual*: the design stays; each draw adds to the fitted log losses a resampled residual, within the same bit
    width, and one effect per trunk, drawn with the variance that residuals share within trunks.
    By default case, and residual where fewer than 20 trunks carry all rows; with more than 5,000 rows *score*: cases
    are drawn, and each draw is one Newton step from the optimum.
    """
    problem = solution.problem
    clusters = int(rows.cluster.max()) + 1
    chosen: Kind = kind or ("residual" if rows.clustered and clusters < FEW_CLUSTERS else "case")
    if len(rows) > MANY_ROWS and kind is None:
        return _by_scores(solution, rows, count=count, seed=seed, delta=delta, clusters=clusters)
    rng = np.random.default_rng([seed, 1])
    error = -residuals(problem, solution.u[None, :])[0]
    split = None if chosen == "case" else _split(error, rows.cluster, jacobian(problem, solution.u))
    parts, unfinished = [], 0
    # A slice of draws at a time, so that memory does not grow with draws times rows.
    size = max(1, _CELLS // len(rows))
    for begin in range(0, count, size):
        k = min(size, count - begin)
        if chosen == "case":
            counts = rng.multinomial(clusters, np.full(clusters, 1.0 / clusters), size=k).astype(np.float64)
            task = Weighted(problem=problem, weights=counts[:, rows.cluster], log_y=problem.log_y)
        else:
            observed = _resampled(problem.log_y - error, error, rows, split, k, rng)
            task = Weighted(problem=problem, weights=np.ones(len(rows)), log_y=observed)
        found = minimise(task, np.repeat(solution.u[None, :], k, axis=0), deltas=[delta], damping=1e-6, workers=workers)
        parts.append(found.u)
        unfinished += int(np.sum(found.decrement > 1e-6))
    return Draws(theta=problem.theta(np.concatenate(parts)), kind=chosen, clusters=clusters, unfinished=unfinished)


def _by_scores(solution: Solution, rows: Rows, *, count: int, seed: int, delta: float, clusters: int) -> Draws:
    """One Newton step per draw from the optimum: with thousands of rows a refit would end at the same place."""
    problem = solution.problem
    rng = np.random.default_rng([seed, 1])
    calibration = calibrate(solution, rows, delta)
    error = residuals(problem, solution.u[None, :])[0]
    score = np.zeros((clusters, problem.size))
    np.add.at(score, rows.cluster, np.clip(error, -delta, delta)[:, None] * jacobian(problem, solution.u))
    steps = []
    for begin in range(0, count, 50):
        k = min(50, count - begin)
        counts = rng.multinomial(clusters, np.full(clusters, 1.0 / clusters), size=k) - 1.0
        steps.append(counts @ score @ calibration.bread)
    u = np.clip(solution.u - np.concatenate(steps), problem.lower, problem.upper)
    return Draws(theta=problem.theta(u), kind="score", clusters=clusters, unfinished=0)


@dataclass(frozen=True, kw_only=True)
class _Split:
    """Residuals taken apart into what the runs of a trunk share and what is each run's own."""

    shared: float
    """Standard deviation of trunk effects."""
    freedom: float
    """Degrees of freedom that speak about `shared`."""
    own: Floats
    """(rows,) residuals without their trunk's mean, at the size of the runs' own noise."""


def _resampled(
    fitted: Floats, error: Floats, rows: Rows, split: _Split | None, count: int, rng: np.random.Generator
) -> Floats:
    """(count, rows) artificial log observations. `error` is observed minus fitted log loss."""
    assert split is not None
    result = np.repeat(fitted[None, :], count, axis=0)
    for group in _pools(rows.x.bits):
        result[:, group] += rng.choice(split.own[group], size=(count, len(group)))
    if split.shared == 0.0:
        return result
    # The size of trunk effects is itself known from few trunks; drawing it too gives the tails of a t distribution.
    size = split.shared * np.sqrt(split.freedom / rng.chisquare(split.freedom, size=(count, 1)))
    effects = size * rng.standard_normal((count, int(rows.cluster.max()) + 1))
    return result + effects[:, rows.cluster]


def _split(error: Floats, cluster: NDArray[np.intp], slopes: Floats) -> _Split:
    """Method of moments for trunk effects and own noise.

    The fit has absorbed part of both: with five sizes, E, A and alpha follow the luck of their trunks. With R the
    projection that a least-squares fit leaves (slopes are its columns), P that onto trunk means and Z the trunks'
    indicators, the sums of squares have expectations linear in the two variances, which are solved for.
    """
    n, groups = len(error), int(cluster.max()) + 1
    size = np.bincount(cluster, minlength=groups).astype(np.float64)
    q = np.linalg.qr(slopes)[0]
    z = np.zeros((n, groups))
    z[np.arange(n), cluster] = 1.0
    mean_q = (z.T @ q) / size[:, None]
    left_z = z - q @ (q.T @ z)
    own_left = left_z - ((z.T @ left_z) / size[:, None])[cluster]
    between_own = groups - float(np.sum(size[:, None] * mean_q**2))
    between_shared = float(np.sum(left_z**2) - np.sum(own_left**2))
    within_own = n - groups - (q.shape[1] - float(np.sum(size[:, None] * mean_q**2)))
    within_shared = float(np.sum(own_left**2))
    mean = np.bincount(cluster, weights=error, minlength=groups) / size
    own = error - mean[cluster]
    within, between = float(np.sum(own**2)), float(np.sum(size * mean**2))
    plain = _Split(shared=0.0, freedom=1.0, own=(error - error.mean()) * np.sqrt(n / max(n - q.shape[1], 1)))
    if groups < 3 or within_own <= 1 or between_own <= 0.5:
        return plain
    system = np.array([[within_own, within_shared], [between_own, between_shared]])
    own_variance, shared_variance = np.linalg.solve(system, np.array([within, between]))
    if shared_variance <= 0 or own_variance <= 0:
        return plain
    return _Split(
        shared=float(np.sqrt(shared_variance)),
        freedom=max(between_own, 2.0),
        own=own * float(np.sqrt(own_variance / max(float(np.mean(own**2)), 1e-300))),
    )


def _pools(bits: Floats, least: int = 15) -> list[NDArray[np.intp]]:
    """Rows by bit width; widths with fewer than `least` rows share one pool, so that a pool is never a handful."""
    codes = np.where(np.isnan(bits), 0.0, bits)
    groups = [np.flatnonzero(codes == b) for b in np.unique(codes)]
    large = [g for g in groups if len(g) >= least]
    small = [g for g in groups if len(g) < least]
    if not small:
        return large
    rest = np.concatenate(small)
    if len(rest) >= least or not large:
        return [*large, rest]
    return [*large[:-1], np.concatenate([large[-1], rest])]
