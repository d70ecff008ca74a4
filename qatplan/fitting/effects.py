"""Random effects of log loss: what the runs of one trunk, or of one curve, share beside what the law says of them.

Runs of a trunk share its initialisation and its data; runs of a curve also share where the law is wrong about their
bits. Both shift whole curves, so levels say less, and contrasts within a curve more, about the law than independent
rows would. The effects are normal and are integrated out: what is minimised is the Huber objective of *whitened*
residuals V^-1/2 r, with V = own noise + trunk effects + curve effects. That keeps value, gradient and hessian exact
and adds no parameter to the law. The alternative, Huber terms of residuals less predicted effects, has as many more
parameters as there are groups, and for squares is the same. Variances are those of largest restricted likelihood
(Patterson and Thompson, Biometrika 58, 1971) of the law made linear at the fit, and fit and variances take turns.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from scipy.optimize import minimize

from qatplan.errors import DataError
from qatplan.fitting.options import Choice
from qatplan.fitting.rows import Rows, known
from qatplan.fitting.solver.newton import minimise
from qatplan.fitting.solver.objective import Weighted, jacobian, residuals
from qatplan.fitting.solver.problem import Problem
from qatplan.fitting.solver.solve import Solution, deltas, solve
from qatplan.fitting.solver.whitening import Groups, Whitening
from qatplan.laws.fit_parts import Effects
from qatplan.laws.inputs import Floats

Kind = Literal["none", "trunk", "curve"]

_SAME_BUDGET = 1.04
"""Runs of one budget lie within this factor of its tokens; fractions are rounded to whole steps."""
_CURVE_POINTS, _CURVES = 3, 5
_TRUNK_ROWS = 3
_START = 2.0
"""Effects over own noise before anything is known: .012 over .006 of log loss, as in the shipped sweep."""
_LARGEST = 100.0
_ROUNDS, _SETTLED = 20, 0.01
_NULL = 1e-8


def supported(rows: Rows, asked: Choice) -> Kind:
    """The effects of a fit: those asked for; with `auto` curves where there are 5, trunks where 3 rows share one.

    Raises DataError where no two rows share an effect that was asked for.
    """
    if asked == "none":
        return "none"
    curve, trunk = _sizes(_curves(rows)), _sizes(_trunks(rows))
    if asked == "auto":
        if np.sum(curve >= _CURVE_POINTS) >= _CURVES:
            return "curve"
        return "trunk" if np.any(trunk >= _TRUNK_ROWS) else "none"
    if asked == "trunk" and not np.any(trunk > 1):
        raise DataError("no two rows share a trunk (trunk_id) at one budget, so effects of trunks have no meaning")
    if asked == "curve" and not np.any(curve > 1):
        raise DataError("no two rows are of one curve (size, tokens, bits, seed), so effects of curves have no meaning")
    return asked


def solve_with_effects(
    problem: Problem, rows: Rows, kind: Kind, *, delta: float, seed: int, starts: int | None
) -> Solution:
    """The best fit with random effects of the `kind`; its certificate says how large they are."""
    if kind == "none":
        return solve(problem, delta=delta, seed=seed, starts=starts)
    trunks, curves = _trunks(rows), _curves(rows)
    groups = (trunks,) if kind == "trunk" else (trunks, curves)
    white = Whitening(groups=groups, ratios=(_START,) * len(groups))
    begin = solve(replace(problem, whitening=white), delta=delta, seed=seed, starts=starts)
    u, own, settled = begin.u, 0.0, False
    for _ in range(_ROUNDS):
        ratios, own = _variances(problem, u, groups, white.ratios)
        settled = bool(np.allclose(ratios, white.ratios, rtol=_SETTLED, atol=_SETTLED))
        white = Whitening(groups=groups, ratios=ratios)
        if settled:
            break
        task = Weighted(problem=replace(problem, whitening=white), weights=np.ones(len(rows)), log_y=problem.log_y)
        u = minimise(task, u[None, :], deltas=deltas(delta)).u[0]
    solution = solve(replace(problem, whitening=white), delta=delta, seed=seed, starts=starts)
    effects = Effects(
        kind=kind, own=own, trunk=white.ratios[0] * own, trunks=len(np.unique(trunks)),
        curve=white.ratios[-1] * own if kind == "curve" else None,
        curves=len(np.unique(curves)) if kind == "curve" else None, settled=settled,
    )  # fmt: skip
    return replace(solution, certificate=replace(solution.certificate, effects=effects))


def _variances(
    problem: Problem, u: Floats, groups: Groups, start: tuple[float, ...]
) -> tuple[tuple[float, ...], float]:
    """(effects over own noise, own noise) of largest restricted likelihood for the law made linear at u (p,)."""
    error = residuals(problem, u[None, :])[0]
    # The likelihood does not depend on the basis of what the law can follow; coordinates at a bound follow nothing.
    free = (u > problem.lower + 1e-9) & (u < problem.upper - 1e-9)
    left, size, _ = np.linalg.svd(jacobian(problem, u)[:, free], full_matrices=False)
    basis = left[:, size > _NULL * size.max(initial=0.0)]
    freedom = len(error) - basis.shape[1]

    def at(ratios: Floats) -> tuple[float, float]:
        """(minus twice the log likelihood, own variance)."""
        white = Whitening(groups=groups, ratios=tuple(np.minimum(np.abs(ratios), _LARGEST).tolist()))
        stacked = white(np.column_stack([basis, error])[None])[0]
        seen, upper = np.linalg.qr(stacked[:, :-1])
        rest = stacked[:, -1] - seen @ (seen.T @ stacked[:, -1])
        own = float(rest @ rest) / max(freedom, 1)
        slopes = float(np.sum(np.log(np.abs(np.diag(upper)))))
        return white.log_determinant + 2.0 * slopes + freedom * np.log(max(own, 1e-300)), own

    def minus_log_likelihood(ratios: Floats) -> float:
        return at(ratios)[0]

    begin = np.maximum(start, 0.1)
    found = minimize(minus_log_likelihood, begin, method="Nelder-Mead", options={"xatol": 1e-3})
    ratios = np.minimum(np.abs(found.x), _LARGEST)
    return tuple(ratios.tolist()), float(np.sqrt(at(ratios)[1]))


def _trunks(rows: Rows) -> np.ndarray:
    """The runs of one trunk at one budget, its control among them."""
    return _numbered(rows, [(int(c), known(n)) for c, n in zip(rows.cluster, rows.x.n, strict=True)])


def _curves(rows: Rows) -> np.ndarray:
    """The runs that differ in the split alone."""
    x = rows.x
    return _numbered(
        rows,
        [
            (known(x.n[i]), known(x.bits[i]), known(x.group_size[i]), known(rows.seed[i]), *rows.method[i][:3])
            if x.quantized[i]
            else (rows.run_id[i], i)
            for i in range(len(rows))
        ],
    )


def _numbered(rows: Rows, keys: list[tuple[object, ...]]) -> np.ndarray:
    """(rows,) numbers of the groups of one key and one budget."""
    numbers, last, first = np.empty(len(rows), dtype=np.intp), dict[tuple[object, ...], int](), dict[int, float]()
    for i in np.argsort(rows.x.d_total, kind="stable").tolist():
        group, tokens = last.get(keys[i]), float(rows.x.d_total[i])
        if group is None or tokens > first[group] * _SAME_BUDGET:
            group = len(first)
            first[group], last[keys[i]] = tokens, group
        numbers[i] = group
    return numbers


def _sizes(groups: np.ndarray) -> np.ndarray:
    return np.bincount(groups)
