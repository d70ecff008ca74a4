"""Value, gradient and hessian of a fit's objective for many coordinate vectors at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qatplan.fitting.solver.problem import Bend, Block, Problem
from qatplan.laws.inputs import Floats

_ROWS_AT_ONCE = 16384
"""Rows are worked through in slices, so memory beyond the design itself stays small for any number of them."""
_Weights = tuple[Floats, Floats | None, Floats | None]
"""Of the columns, of their outer products, and of the products within each term; (K, rows) each."""


@dataclass(frozen=True, kw_only=True)
class Weighted:
    """What is minimised: sum over rows of weight * Huber_delta(log prediction - log y)."""

    problem: Problem
    weights: Floats
    """(rows,) for all vectors, or (K, rows) for each its own."""
    log_y: Floats
    """(rows,), or (K, rows) where each vector has its own (resampled) observations."""
    pinned: int | None = None
    """Position of a coordinate that stays where each vector has it, for profiles."""


def residuals(problem: Problem, u: Floats) -> Floats:
    """(K, rows) log prediction minus log observation at u (K, p)."""
    return _shares(problem, u, slice(None))[1] - problem.log_y


def huber(residual: Floats, delta: float) -> Floats:
    """r^2/2 for |r| <= delta, delta (|r| - delta/2) beyond."""
    size = np.abs(residual)
    clipped = np.minimum(size, delta)
    result: Floats = clipped * (size - 0.5 * clipped)
    return result


def value(task: Weighted, rows: NDArray[np.intp], u: Floats, delta: float) -> Floats:
    """(len(rows),) objectives of the vectors u, which belong to the members `rows` of the task."""
    total = np.zeros(len(u))
    for part in _slices(task.problem):
        residual = task.problem.whitened(_shares(task.problem, u, part)[1] - _pick(task.log_y, rows, part))
        total += np.sum(_pick(task.weights, rows, part) * huber(residual, delta), 1)
    return total


def derivatives(
    task: Weighted, rows: NDArray[np.intp], u: Floats, delta: float, *, gauss_newton: bool = False
) -> tuple[Floats, Floats, Floats]:
    """Objective (k,), gradient (k, p) and hessian (k, p, p).

    `gauss_newton` replaces the hessian by the positive one of iteratively reweighted least squares, which serves far
    from the optimum.
    """
    problem = task.problem
    k, p = u.shape
    objective, gradient, hessian = np.zeros(k), np.zeros((k, p)), np.zeros((k, p, p))
    for part in _slices(problem):
        shares, log_prediction = _shares(problem, u, part)
        r = problem.whitened(log_prediction - _pick(task.log_y, rows, part))
        w = _pick(task.weights, rows, part)
        size = np.abs(r)
        objective += np.sum(w * huber(r, delta), axis=1)
        first = w * np.clip(r, -delta, delta)
        second = w * (delta / np.maximum(size, delta) if gauss_newton else size <= delta)
        if problem.whitening is not None:
            # A row's whitened residual is a sum over its group: it pulls at all of them, and curves along the sum.
            pull = problem.whitened(first)
            bent = (None, None) if gauss_newton else (-pull, pull)
            jac = _add_bent(problem, u, part, shares, (pull, *bent), (gradient, hessian))
            hessian += _squares(second, problem.whitened(jac))
            continue
        curve, bend_weight = (second, None) if gauss_newton else (second - first, first)
        if any(b.bend is not None for b in problem.blocks):
            _add_bent(problem, u, part, shares, (first, curve, bend_weight), (gradient, hessian))
        else:
            _add_straight(problem, part, shares, (first, curve, bend_weight), (gradient, hessian))
    return objective, gradient, hessian


def jacobian(problem: Problem, u: Floats) -> Floats:
    """(rows, p) derivative of the log predictions at one vector u (p,)."""
    result: Floats = jacobians(problem, u[None, :])[0]
    return result


def jacobians(problem: Problem, u: Floats) -> Floats:
    """The same at several vectors u (K, p), (K, rows, p)."""
    shares, _ = _shares(problem, u, slice(None))
    result = np.zeros((len(u), len(problem.log_y), problem.size))
    for block, share in zip(problem.blocks, shares, strict=True):
        result[:, :, block.index] += share[:, :, None] * _design(block, u, slice(None))[0]
    return result


def shares(problem: Problem, u: Floats) -> list[Floats]:
    """Per term its share (rows,) of the prediction at one vector u (p,)."""
    return [part[0] for part in _shares(problem, u[None, :], slice(None))[0]]


def _slices(problem: Problem) -> list[slice]:
    n = len(problem.log_y)
    if problem.whitening is not None:
        return [slice(0, n)]
    return [slice(i, min(i + _ROWS_AT_ONCE, n)) for i in range(0, n, _ROWS_AT_ONCE)]


def _pick(values: Floats, rows: NDArray[np.intp], part: slice) -> Floats:
    return values[None, part] if values.ndim == 1 else values[rows, part]


def _shares(problem: Problem, u: Floats, part: slice) -> tuple[list[Floats], Floats]:
    """Per term its share of the prediction (K, rows), and the log prediction (K, rows)."""
    parts = [term(b, u[:, b.index], part) for b in problem.blocks]
    total = parts[0].copy()
    for z in parts[1:]:
        total += z
    total = np.maximum(total, 1e-300)
    for z in parts:
        z /= total
    return parts, np.log(total)


def term(block: Block, at: Floats, rows: slice | NDArray[np.intp]) -> Floats:
    """(K, rows) values of a block at its own coordinates (K, q), 0 where it is absent."""
    z = at @ block.design[rows].T + block.offset[rows]
    bend = block.bend
    if bend is not None:
        z += _power(bend, at) * bend.factor.take(rows).column(_rates(bend, at))
        # Where a formula has no positive value it counts as nothing, which no loss agrees with.
        z[np.isnan(z)] = -np.inf
    np.exp(np.minimum(z, 500.0, out=z), out=z)
    z *= block.present[rows]
    return z


def _add_straight(
    problem: Problem, part: slice, shares: list[Floats], weights: tuple[Floats, Floats, Floats | None],
    sums: tuple[Floats, Floats],
) -> None:  # fmt: skip
    """Add what the rows of `part` have in the gradient and the hessian, which are `sums`."""
    (first, curve, bend_weight), (gradient, hessian) = weights, sums
    for s, block in enumerate(problem.blocks):
        weighted = first * shares[s]
        gradient[:, block.index] += weighted @ block.design[part]
        left = curve * shares[s]
        for t in range(s, len(problem.blocks)):
            products = problem.products.get((s, t))
            if products is None:
                continue
            weight = left * shares[t]
            if s == t and bend_weight is not None:
                weight += weighted
            other = problem.blocks[t]
            cell = (weight @ products[part]).reshape(-1, len(block.index), len(other.index))
            hessian[:, block.index[:, None], other.index[None, :]] += cell
            if s != t:
                hessian[:, other.index[:, None], block.index[None, :]] += cell.transpose(0, 2, 1)


def _design(block: Block, u: Floats, part: slice) -> tuple[Floats, list[tuple[int, int, Floats]]]:
    """(K, rows, q) columns of a block at u, and of their own derivatives those that are not 0: (i, j, (K, rows))."""
    design = np.broadcast_to(block.design[part], (len(u), *block.design[part].shape)).copy()
    if (bend := block.bend) is None:
        return design, []
    at, present = u[:, block.index], block.present[part]
    column, first, second = bend.factor.take(part).derivatives(_rates(bend, at))
    power, bent, rates = _power(bend, at), [], list(zip(bend.rates, bend.scales, strict=True))
    if (e := bend.exponent) is not None:
        design[:, :, e] += _known(column) * present / bend.scale
    for (i, scale), slope, row in zip(rates, first, second, strict=True):
        slope = _known(slope) * present / scale
        design[:, :, i] += power * slope
        if e is not None:
            bent += [(e, i, slope / bend.scale), (i, e, slope / bend.scale)]
        bent += [(i, j, power * _known(c) * present / (scale * s)) for (j, s), c in zip(rates, row, strict=True)]
    return design, bent


def _known(values: Floats) -> Floats:
    """0 for what is no number: see `term`."""
    return np.where(np.isfinite(values), values, 0.0)


def _power(bend: Bend, at: Floats) -> Floats:
    """The exponent of a factor, (K, 1), from its block's coordinates (K, q)."""
    return np.array([[bend.scale]]) if bend.exponent is None else at[:, bend.exponent, None] / bend.scale


def _rates(bend: Bend, at: Floats) -> list[Floats]:
    """The rates of a factor, (K, 1) each, from its block's coordinates (K, q)."""
    return [at[:, i, None] / scale for i, scale in zip(bend.rates, bend.scales, strict=True)]


def _add_bent(
    problem: Problem, u: Floats, part: slice, shares: list[Floats], weights: _Weights, sums: tuple[Floats, Floats]
) -> Floats:
    """The same with the columns written out, for laws with a nonlinear factor; returns the jacobian (K, rows, p)."""
    (first, curve, bend_weight), (gradient, hessian) = weights, sums
    jac = np.zeros((*first.shape, problem.size))
    for block, share in zip(problem.blocks, shares, strict=True):
        design, bent = _design(block, u, part)
        jac[:, :, block.index] += share[:, :, None] * design
        if bend_weight is None:
            continue
        weight = bend_weight * share
        rows, columns = block.index[:, None], block.index[None, :]
        hessian[:, rows, columns] += _squares(weight, design)
        for i, j, curvature in bent:
            hessian[:, block.index[i], block.index[j]] += np.sum(weight * curvature, axis=1)
    gradient += (first[:, None, :] @ jac)[:, 0]
    if curve is not None:
        hessian += _squares(curve, jac)
    return jac


def _squares(weight: Floats, columns: Floats) -> Floats:
    """(K, p, p): sums over rows of weight (K, rows) times the outer products of columns (K, rows, p)."""
    made: Floats = (columns * weight[:, :, None]).transpose(0, 2, 1) @ columns
    return made
