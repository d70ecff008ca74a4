"""The optimisation problem of a fit: sum of Huber terms over log residuals, with exact first and second derivatives.

Every law is a sum of terms whose logs are linear in the coordinates, so with p_t the share of term t in the
prediction, the log prediction has gradient sum_t p_t d_t and hessian sum_t p_t d_t d_t' - gradient gradient', where d_t
are the term's columns. Everything is evaluated for many coordinate vectors at once (starts, or bootstrap draws):
arrays are (K, rows), and the K hessians come from matrix products with precomputed products of columns.

Coordinates are centred and scaled: an amplitude becomes the log of its term at the centre of its rows, an exponent is
multiplied by the spread of its column. Uncentred, the hessian's condition number is about 1e4 times larger.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qatplan.fitting.solver.whitening import Whitening
from qatplan.laws.fit_parts import Pair
from qatplan.laws.inputs import Floats, Inputs
from qatplan.laws.law import Law, Parameter, Term
from qatplan.laws.nonlinear import Held, Nonlinear

# A term may shrink to this share of the typical loss before it counts as gone (the fit then says so).
VANISHED = 1e-7
_LARGEST = 1e3


@dataclass(frozen=True, kw_only=True)
class Bend:
    """The factor of a term whose log is not linear in the coordinates."""

    factor: Nonlinear
    rates: tuple[int, ...]
    """Positions within the block of the rates."""
    scales: tuple[float, ...]
    """Scaled rate = scale * rate, of each."""
    exponent: int | None
    """Position within the block of the exponent; None where it is fixed, or the factor has none."""
    scale: float
    """Scaled exponent = scale * exponent; the exponent itself where it is fixed, 1 where the factor has none."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """One term in scaled coordinates."""

    index: NDArray[np.intp]
    """(q,) positions of its free coordinates."""
    design: Floats
    """(rows, q) scaled columns, 0 where the term is absent."""
    present: Floats
    """(rows,) 1 where the term is present, else 0."""
    offset: Floats
    """(rows,) contribution of fixed coordinates."""
    amplitude: int | None
    """Position within `index` of the amplitude."""
    bend: Bend | None = None


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A law, its points and their observed values, ready to be minimised over u (free coordinates, scaled)."""

    law: Law
    free: tuple[Parameter, ...]
    """The parameters that are fitted, in the order of u."""
    fixed: dict[str, float]
    """Fitting coordinates that stay as they are, by name."""
    log_y: Floats
    blocks: tuple[Block, ...]
    to_theta: Floats
    """(p, p): free coordinates theta = to_theta @ u."""
    to_u: Floats
    lower: Floats
    upper: Floats
    products: dict[tuple[int, int], Floats]
    """For a pair of blocks, (rows, q_s * q_t) products of their columns."""
    whitening: Whitening | None = None
    """What makes residuals independent that share random effects."""

    @property
    def size(self) -> int:
        """Number of free coordinates."""
        return len(self.free)

    def whitened(self, values: Floats) -> Floats:
        """Values (K, rows) or (K, rows, p) of rows without what random effects make them share."""
        return values if self.whitening is None else self.whitening(values)

    def theta(self, u: Floats) -> Floats:
        """Fitting coordinates (.., all parameters of the law) from scaled ones (.., p)."""
        names = [p.name for p in self.law.parameters()]
        result = np.empty((*u.shape[:-1], len(names)))
        free = {p.name: i for i, p in enumerate(self.free)}
        values = u @ self.to_theta.T
        for j, name in enumerate(names):
            result[..., j] = values[..., free[name]] if name in free else self.fixed[name]
        return result

    def scaled(self, theta: Floats) -> Floats:
        """Scaled coordinates from the law's full coordinate vector(s)."""
        names = [p.name for p in self.law.parameters()]
        chosen = theta[..., [names.index(p.name) for p in self.free]]
        result: Floats = chosen @ self.to_u.T
        return result


def build(
    law: Law, x: Inputs, y: Floats, *, fixed: dict[str, float] | None = None, uncentred: str | None = None
) -> Problem:
    """Compile a law (for its shape) and rows into a problem. `fixed` maps names to fixed fitting coordinates.

    The amplitude named `uncentred` keeps its own log as coordinate, so that it can be pinned for a profile.
    """
    fixed = dict(fixed or {})
    free = tuple(p for p in law.parameters() if p.name not in fixed)
    position = {p.name: i for i, p in enumerate(free)}
    by_name = {p.name: p for p in free}
    p = len(free)
    to_u = np.zeros((p, p))
    lower, upper = np.full(p, -np.inf), np.full(p, np.inf)
    typical = float(np.exp(np.median(np.log(y)))) if len(y) else 1.0
    highest = float(np.max(y)) if len(y) else 1.0
    blocks: list[Block] = []
    scales: dict[str, float] = {}

    def add(made: dict[str, Floats], name: str, column: Floats, bounds: Pair, scale: float = 1.0) -> None:
        i, made[name] = position[name], column
        to_u[i, i] = scale
        lower[i], upper[i] = bounds[0] * scale, bounds[1] * scale

    for term in law.terms(x):
        present = term.rows.astype(np.float64)
        offset = np.zeros(len(x)) if term.known is None else np.where(term.rows, term.known, 0.0)
        domain = _domain(by_name.get(term.amplitude or ""))
        # Bounds on an amplitude are no bounds on its term, so such a one keeps its own log as coordinate.
        centred = term.amplitude in position and term.amplitude != uncentred and domain == (-np.inf, np.inf)
        made: dict[str, Floats] = {}
        if term.amplitude is not None and term.amplitude in fixed:
            offset += fixed[term.amplitude] * present
        elif term.amplitude is not None:
            free_ends = not centred and bool(term.columns)
            low, high = (-500.0, 500.0) if free_ends else (np.log(VANISHED * typical), np.log(_LARGEST * highest))
            add(made, term.amplitude, present, (max(float(low), domain[0]), min(float(high), domain[1])))
        for name, column in _columns(term, fixed).items():
            if name in fixed:
                offset += np.where(term.rows, fixed[name] * column, 0.0)
                continue
            inside = column[term.rows]
            binary = bool(np.all((inside == 0) | (inside == 1)))
            mean = float(inside.mean()) if centred and inside.size and not binary else 0.0
            spread = float(inside.std()) if inside.size and not binary else 1.0
            # A parameter that several terms share has one scale.
            scale = scales.setdefault(name, spread if spread > 1e-9 * (1.0 + abs(mean)) else 1.0)
            add(made, name, np.where(term.rows, (column - mean) / scale, 0.0), coordinate_bounds(by_name[name]), scale)
            if term.amplitude in position:
                to_u[position[term.amplitude], position[name]] += mean
        if centred and term.rows.any():
            # The bounds are about the term; what is fixed of it is not in the amplitude's own coordinate.
            i, fixed_part = position[term.amplitude or ""], float(offset[term.rows].mean())
            lower[i], upper[i] = lower[i] - fixed_part, upper[i] - fixed_part
        bend, s = None, term.nonlinear
        if s is not None and any(rate in position for rate in s.rates):
            s = Held.of(s, fixed)
            for rate in s.rates:
                # What no column of the term says of a rate is filled in at every evaluation.
                if rate not in made:
                    add(made, rate, np.zeros_like(present), coordinate_bounds(by_name[rate]), scales.get(rate, 1.0))
            names, at = list(made), position.get(s.exponent or "")
            bend = Bend(
                factor=s,
                rates=tuple(names.index(rate) for rate in s.rates),
                scales=tuple(float(to_u[position[rate], position[rate]]) for rate in s.rates),
                exponent=None if at is None else names.index(s.exponent or ""),
                scale=float(to_u[at, at]) if at is not None else fixed[s.exponent] if s.exponent else 1.0,
            )
        elif s is not None and s.exponent is None:
            offset += np.where(term.rows, s.column([np.array([fixed[rate]]) for rate in s.rates]), 0.0)
        blocks.append(
            Block(
                index=np.array([position[n] for n in made], dtype=np.intp),
                design=np.ascontiguousarray(np.stack([*made.values()], axis=1)) if made else np.zeros((len(x), 0)),
                present=present,
                offset=offset,
                amplitude=0 if term.amplitude in position else None,
                bend=bend,
            )
        )
    to_u[np.diag(to_u) == 0, np.diag(to_u) == 0] = 1.0
    products = {
        (s, t): (blocks[s].design[:, :, None] * blocks[t].design[:, None, :]).reshape(len(x), -1)
        for s in range(len(blocks))
        for t in range(s, len(blocks))
        if blocks[s].index.size and blocks[t].index.size and bool(np.any(blocks[s].present * blocks[t].present))
    }
    return Problem(
        law=law,
        free=free,
        fixed=fixed,
        log_y=np.log(y),
        blocks=tuple(blocks),
        to_theta=np.asarray(np.linalg.inv(to_u), dtype=np.float64),
        to_u=to_u,
        lower=lower,
        upper=upper,
        products=products,
    )


def coordinate_bounds(parameter: Parameter) -> tuple[float, float]:
    """Bounds of a non-amplitude's fitting coordinate."""
    if parameter.coordinate == "inverse":
        return 1.0 / parameter.upper, 1.0 / parameter.lower
    if parameter.coordinate == "log":
        return _domain(parameter)
    if parameter.coordinate == "factor":
        # -exponent * log(factor) for a factor in (0, 1]: the exponent only scales it.
        return 0.0, 25.0
    return parameter.lower, parameter.upper


def _domain(parameter: Parameter | None) -> Pair:
    """Logs of a parameter's bounds."""
    if parameter is None:
        return -np.inf, np.inf
    with np.errstate(divide="ignore"):
        return float(np.log(parameter.lower)), float(np.log(parameter.upper))


def _columns(term: Term, fixed: dict[str, float]) -> dict[str, Floats]:
    """The term's columns; a factor whose rates are fixed is part of its exponent's column."""
    columns, s = dict(term.columns), term.nonlinear
    if s is not None and s.exponent is not None and all(rate in fixed for rate in s.rates):
        columns[s.exponent] = columns[s.exponent] + s.column([np.array([fixed[rate]]) for rate in s.rates])
    return columns
