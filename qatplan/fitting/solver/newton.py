"""A damped Newton method inside box bounds that minimises many independent objectives side by side.

All K members (starts of a multi-start, or draws of a bootstrap) advance together, so one iteration is a few large
array operations instead of K small ones. Negative curvature is used by its absolute value (a saddle then repels), and
each member has its own damping.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qatplan.fitting.solver.objective import Weighted, derivatives, value
from qatplan.laws.inputs import Floats

_FLOOR = 1e-11  # curvatures below this share of the largest are treated as this share: the rows hardly see them
_LOOSE_END = (1e-3, 30)  # tolerance and steps with all deltas but the last
_HAIR = 1e-12
"""From a bound, within which a coordinate counts as on it."""
_CELLS = 100_000  # members x rows worked on at once: what stays in the processor's cache
PATIENCE = 1000
"""Newton steps that a member may take. Around ten are usual. Where few rows lie within delta (few rows, or a delta far
below their scatter) the objective is nearly piecewise linear, and hundreds are needed; stopping earlier would leave
bootstrap draws and profiles too close to where they began, and their intervals too narrow."""
EXACT = 1e-9  # log residuals below this are rounding; objectives below their Huber terms count as 0


@dataclass(frozen=True, kw_only=True)
class Minima:
    """Where K minimisations ended."""

    u: Floats
    value: Floats
    gradient: Floats
    """(K, p) projected: 0 where a bound holds the coordinate."""
    hessian: Floats
    decrement: Floats
    """Decrease that a last Newton step would still promise, relative to the objective."""
    iterations: NDArray[np.intp]

    @staticmethod
    def joined(parts: Sequence[Minima]) -> Minima:
        """All members in turn."""
        return Minima(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])})


def minimise(
    task: Weighted,
    u: Floats,
    *,
    deltas: Sequence[float],
    tolerance: float = 1e-12,
    iterations: int = PATIENCE,
    damping: float = 1e-3,
    workers: int = 1,
) -> Minima:
    """Minimise each member from its row of u (K, p), with Huber deltas in turn; only the last is solved tightly.

    Large deltas first make a smooth least-squares problem of it, whose solution is near that of the next. The
    tolerance is on the decrement relative to the objective; `damping` is what the steps begin with, as a share of the
    largest curvature: small near an optimum, where full steps can be trusted. `workers` threads share the members; the
    result does not depend on their number.
    """
    chunk = max(1, _CELLS // max(1, len(task.problem.log_y)))

    def work(begin: int) -> Minima:
        rows = np.arange(begin, min(begin + chunk, len(u)))
        at, used = u[rows], np.zeros(len(rows), dtype=np.intp)
        for i, delta in enumerate(deltas):
            last = i == len(deltas) - 1
            end = (tolerance, iterations) if last else _LOOSE_END
            at, spent = _descend(task, rows, at, delta, damping, end, gauss_newton=not last)
            used += spent
        at = np.where(at <= task.problem.lower + _HAIR, task.problem.lower, at)
        at = np.where(at >= task.problem.upper - _HAIR, task.problem.upper, at)
        f, g, h = derivatives(task, rows, at, deltas[-1])
        g, h = _project(task, at, g, h)
        _, promised = _step(g, h, np.zeros(len(rows)))
        decrement = promised / np.maximum(f, _negligible(task))
        return Minima(u=at, value=f, gradient=g, hessian=h, decrement=decrement, iterations=used)

    begins = range(0, len(u), chunk)
    if workers > 1 and len(begins) > 1:
        with ThreadPoolExecutor(workers) as pool:
            return Minima.joined(list(pool.map(work, begins)))
    return Minima.joined([work(begin) for begin in begins])


def _descend(
    task: Weighted, rows: NDArray[np.intp], u: Floats, delta: float, damping: float, end: tuple[float, int],
    *, gauss_newton: bool,
) -> tuple[Floats, NDArray[np.intp]]:  # fmt: skip
    """(u, steps) of each member, at most as many and to the tolerance that `end` says."""
    tolerance, iterations = end
    u = np.clip(u, task.problem.lower, task.problem.upper)
    used = np.zeros(len(u), dtype=np.intp)
    active = np.arange(len(u))
    f, g, h = derivatives(task, rows, u, delta, gauss_newton=gauss_newton)
    damped = np.full(len(u), damping)
    stale = np.zeros(len(u), dtype=np.bool_)
    floor = _negligible(task)
    for _ in range(iterations):
        if not active.size:
            break
        todo = active[stale[active]]
        if todo.size:
            f[todo], g[todo], h[todo] = derivatives(task, rows[todo], u[todo], delta, gauss_newton=gauss_newton)
            stale[todo] = False
        projected, free_h = _project(task, u[active], g[active], h[active])
        step, promised = _step(projected, free_h, damped[active])
        trial = np.clip(u[active] + step, task.problem.lower, task.problem.upper)
        trial_f = value(task, rows[active], trial, delta)
        gain = f[active] - trial_f
        good = gain > 1e-4 * promised
        good |= (gain >= 0) & (promised <= 1e-15 * np.maximum(f[active], floor))
        used[active] += 1
        accepted = active[good]
        u[accepted] = trial[good]
        f[accepted] = trial_f[good]
        stale[accepted] = True
        ratio = gain / np.maximum(promised, 1e-300)
        shrink = np.where(ratio > 0.75, 0.1, np.where(ratio > 0.25, 0.4, 2.0))
        damped[active] = np.clip(np.where(good, damped[active] * shrink, damped[active] * 8.0), 1e-14, 1e8)
        small = promised <= tolerance * np.maximum(f[active], floor)
        # A tiny promise under heavy damping means nothing, so convergence needs the damping to be light.
        done = (small & (damped[active] <= 1e-2)) | (damped[active] >= 1e7)
        active = active[~done]
    return u, used


def _negligible(task: Weighted) -> float:
    """Objective of residuals that are rounding only; relative comparisons stop there."""
    total = float(task.weights.sum()) / (1 if task.weights.ndim == 1 else len(task.weights))
    return max(0.5 * EXACT**2 * total, 1e-300)


def _project(task: Weighted, u: Floats, g: Floats, h: Floats) -> tuple[Floats, Floats]:
    """Take coordinates out that sit on a bound and would leave the box: zero gradient, unit curvature, no coupling."""
    lower, upper = task.problem.lower, task.problem.upper
    # Rounding may leave a coordinate a hair inside: a step would be promised what the bound does not let it have.
    fixed = ((u <= lower + _HAIR) & (g > 0)) | ((u >= upper - _HAIR) & (g < 0))
    if task.pinned is not None:
        fixed[:, task.pinned] = True
    if not np.any(fixed):
        return g, h
    g = np.where(fixed, 0.0, g)
    h = np.where(fixed[:, :, None] | fixed[:, None, :], 0.0, h)
    k, i = np.nonzero(fixed)
    largest = np.maximum(np.max(np.abs(np.diagonal(h, axis1=1, axis2=2)), axis=1), 1e-300)
    h[k, i, i] = largest[k]
    return g, h


def _step(g: Floats, h: Floats, damping: Floats) -> tuple[Floats, Floats]:
    """Newton step with absolute, floored and damped curvatures, and the decrease that the quadratic model promises."""
    curvature, vectors = np.linalg.eigh(h)
    size = np.abs(curvature)
    largest = np.maximum(size.max(axis=1, keepdims=True), 1e-300)
    size = np.maximum(size, _FLOOR * largest) + damping[:, None] * largest
    along = np.einsum("kij,ki->kj", vectors, g)
    step = -np.einsum("kij,kj->ki", vectors, along / size)
    return step, 0.5 * np.sum(along**2 / size, axis=1)
