"""Where a multi-start begins: exponents from a space-filling design, amplitudes by least squares given them."""

from __future__ import annotations

import numpy as np
from scipy.stats import qmc

from qatplan.fitting.solver.objective import Weighted, term
from qatplan.fitting.solver.problem import coordinate_bounds
from qatplan.laws.inputs import Floats
from qatplan.laws.law import Parameter

_SWEEPS = 60
_MOST_ROWS = 2000
_LEAST_SHARE = 3e-3


def design(task: Weighted, count: int, seed: int) -> Floats:
    """(count, p) scaled starting vectors.

    Exponents and other shape parameters fill their physically stated ranges (`Parameter.start`) by a scrambled Sobol
    sequence. Given these the prediction is linear in the amplitudes, which follow by non-negative least squares on
    relative errors, so only the shape is searched. An amplitude that comes out as 0 starts as a small share of the
    loss instead, because the log of an amplitude cannot leave 0.
    """
    problem = task.problem
    shapes = [i for i, p in enumerate(problem.free) if np.isfinite(p.start[0])]
    u = np.zeros((count, problem.size))
    if shapes:
        sampler = qmc.Sobol(len(shapes), rng=np.random.default_rng(seed))
        unit = sampler.random_base2(int(np.ceil(np.log2(max(count, 2)))))[:count]
        theta = np.zeros((count, problem.size))
        for column, i in enumerate(shapes):
            low, high = _start_range(problem.free[i])
            theta[:, i] = low + (high - low) * unit[:, column]
        # Scaling alone: to_u's off-diagonal part only moves amplitudes, which are replaced below.
        u = theta * np.diag(problem.to_u)
    u = np.clip(u, problem.lower, problem.upper)
    return _with_amplitudes(task, u)


def _start_range(parameter: Parameter) -> tuple[float, float]:
    low, high = parameter.start
    if parameter.coordinate == "inverse":
        return 1.0 / high, 1.0 / low
    if parameter.coordinate == "log":
        return float(np.log(low)), float(np.log(high))
    if parameter.coordinate == "factor":
        return -0.35 * np.log(high), -0.35 * np.log(low)
    lowest, highest = coordinate_bounds(parameter)
    return max(low, lowest), min(high, highest)


def _with_amplitudes(task: Weighted, u: Floats) -> Floats:
    """Replace the amplitudes in u by the least-squares ones."""
    problem = task.problem
    weights = task.weights if task.weights.ndim == 1 else task.weights[0]
    log_y = task.log_y if task.log_y.ndim == 1 else task.log_y[0]
    # Evenly spread rows; starts need no more.
    rows = np.unique(np.linspace(0, len(log_y) - 1, min(len(log_y), _MOST_ROWS)).astype(np.intp))
    columns, positions, fixed = [], [], np.zeros((len(u), len(rows)))
    for block in problem.blocks:
        at = u[:, block.index].copy()
        if block.amplitude is not None:
            at[:, block.amplitude] = 0.0
        shape = term(block, at, rows) / np.exp(log_y[rows])
        if block.amplitude is None:
            fixed += shape
        else:
            columns.append(shape)
            positions.append(block.index[block.amplitude])
    if not columns:
        return u
    basis = np.stack(columns, axis=1)
    w = weights[rows]
    gram = np.einsum("kin,kjn,n->kij", basis, basis, w, optimize=True)
    right = np.einsum("kin,kn,n->ki", basis, 1.0 - fixed, w, optimize=True)
    amplitude = _non_negative(gram, right)
    # A typical size of 1 in units of the loss, per term: the floor is a share of the loss where the term is present.
    level = np.sqrt(np.maximum(np.diagonal(gram, axis1=1, axis2=2) / max(float(w.sum()), 1e-300), 1e-300))
    amplitude = np.maximum(amplitude, _LEAST_SHARE / level)
    result = u.copy()
    result[:, positions] = np.log(amplitude)
    return np.clip(result, problem.lower, problem.upper)


def _non_negative(gram: Floats, right: Floats) -> Floats:
    """Non-negative least squares of many small problems by coordinate descent."""
    diagonal = np.maximum(np.diagonal(gram, axis1=1, axis2=2), 1e-300)
    a = np.zeros_like(right)
    for _ in range(_SWEEPS):
        for i in range(right.shape[1]):
            slack = right[:, i] - np.einsum("kj,kj->k", gram[:, i], a) + diagonal[:, i] * a[:, i]
            a[:, i] = np.maximum(slack / diagonal[:, i], 0.0)
    return a
