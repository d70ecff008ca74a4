"""Bootstrap draws of the parameters, each refitted to the end from the optimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from qatplan.fitting.intervals.profile import by_trunk, calibrate
from qatplan.fitting.intervals.studentise import studentised
from qatplan.fitting.intervals.trunk_effects import FEW_TRUNKS, effects_like, noise_like, variance_components
from qatplan.fitting.rows import Rows
from qatplan.fitting.solver.newton import minimise
from qatplan.fitting.solver.objective import Weighted, jacobian, residuals
from qatplan.fitting.solver.solve import Solution
from qatplan.laws.fit_parts import Resampling
from qatplan.laws.inputs import Floats

FEW_ROWS = 30
"""With fewer rows for each parameter, draws of rows leave out too much of the design, and intervals become too wide."""

MANY_ROWS = 5000
"""With more rows, draws are single Newton steps from the optimum."""
_CELLS = 2_000_000

Kind = Literal["case", "residual", "score"]


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Fitting coordinates (draws, parameters) and how they were made."""

    theta: Floats
    how: Resampling
    """Draws whose minimisation did not end at a small decrement are kept, as far as they came."""


def draw(
    solution: Solution, rows: Rows, *, count: int, seed: int, delta: float, kind: Kind | None = None, workers: int = 1
) -> Draws:
    """Resample and refit `count` times, warm-started.

    *case*: whole clusters (trunks, or runs where no trunk is shared) are drawn with replacement.
    *residual*: the design stays; each draw adds to the fitted log losses noise like that of the residuals
    (`qatplan.fitting.intervals.trunk_effects`); its end counts as far from the optimum as it is in the scatter of fits
    (`qatplan.fitting.intervals.studentise`).
    By default case, and residual where there are fewer than 20 clusters, or fewer than 30 rows for each parameter;
    with more than 5,000 rows *score*: cases are drawn, and each draw is one Newton step from the optimum; of fewer than
    20 trunks the runs are drawn, and trunk effects like those of the residuals are added.
    """
    problem = solution.problem
    clusters = int(rows.cluster.max()) + 1
    few = clusters < FEW_TRUNKS or len(rows) < FEW_ROWS * problem.size
    chosen: Kind = kind or ("residual" if few else "case")
    if len(rows) > MANY_ROWS and kind is None:
        return _by_scores(solution, rows, count=count, seed=seed, delta=delta, clusters=clusters)
    rng = np.random.default_rng([seed, 1])
    error, components = -residuals(problem, solution.u[None, :]), None
    if chosen == "residual":
        slopes = problem.whitened(jacobian(problem, solution.u)[None])[0]
        components = variance_components(problem.whitened(error)[0], rows, slopes)
    drawn, unfinished = [], 0
    # A slice of draws at a time, so that memory does not grow with draws times rows.
    size = max(1, _CELLS // len(rows))
    for begin in range(0, count, size):
        k = min(size, count - begin)
        if components is None:
            counts = rng.multinomial(clusters, np.full(clusters, 1.0 / clusters), size=k).astype(np.float64)
            task = Weighted(problem=problem, weights=counts[:, rows.cluster], log_y=problem.log_y)
        else:
            noise = noise_like(components, rows, k, rng)
            if problem.whitening is not None:
                noise = problem.whitening.coloured(noise)
            observed = problem.log_y - error + noise
            task = Weighted(problem=problem, weights=np.ones(len(rows)), log_y=observed)
        found = minimise(task, np.repeat(solution.u[None, :], k, axis=0), deltas=[delta], damping=1e-6, workers=workers)
        drawn.append(found.u)
        unfinished += int(np.sum(found.decrement > 1e-6))
    u = np.concatenate(drawn)
    if components is not None:
        u = studentised(problem, rows, components, solution.u, u)
    how = Resampling(draws=count, kind=chosen, clusters=clusters, unfinished=unfinished)
    return Draws(theta=problem.theta(u), how=how)


def _by_scores(solution: Solution, rows: Rows, *, count: int, seed: int, delta: float, clusters: int) -> Draws:
    """One Newton step per draw from the optimum: with thousands of rows a refit would end at the same place."""
    problem = solution.problem
    rng = np.random.default_rng([seed, 1])
    calibration = calibrate(solution, rows, delta)
    error = problem.whitened(residuals(problem, solution.u[None, :]))[0]
    slopes = problem.whitened(jacobian(problem, solution.u)[None])[0]
    score, components = np.clip(error, -delta, delta)[:, None] * slopes, None
    if rows.clustered and clusters < FEW_TRUNKS:
        components = variance_components(-error, rows, slopes)
    else:
        score = by_trunk(score, rows)
    steps = []
    for begin in range(0, count, 50):
        k = min(50, count - begin)
        counts = rng.multinomial(len(score), np.full(len(score), 1.0 / len(score)), size=k) - 1.0
        steps.append(counts @ score @ calibration.bread)
        if components is not None and components.trunk_effect > 0:
            shared = calibration.curvature * by_trunk(slopes, rows)
            steps[-1] -= effects_like(components, k, rng) @ shared @ calibration.bread
    u = np.clip(solution.u - np.concatenate(steps), problem.lower, problem.upper)
    how = Resampling(draws=count, kind="score", clusters=clusters, unfinished=0)
    return Draws(theta=problem.theta(u), how=how)
