"""The optimum surface fitted to measured curves: minima with their own errors, those at an end as bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_ndtr

from qatplan.errors import DataError
from qatplan.fitting.curves import Curve, artificial_minima, pooled_noise
from qatplan.laws.fraction_surface import FractionSurface
from qatplan.laws.inputs import Floats, Inputs

DRAWS = 50
"""Artificial curves for each measured one, which carry the uncertainty of its minimum."""
_STARTS = 4
_PRIOR = np.array([[-1.4, 1.5], [-2.0, 2.0], [0.4, 0.3], [np.log(0.6), 0.4]])
"""(mean, standard deviation) of c_0, c_B, c_D and the log of the scatter. They decide only what the curves leave open:
0.4 is the slope on ln D that the published fraction law has at 100 tokens per parameter byte."""
_HALF_LOG_2PI = 0.5 * float(np.log(2 * np.pi))


@dataclass(frozen=True, kw_only=True)
class Minima:
    """Where measured curves are lowest, in log-odds of the fraction."""

    columns: Floats
    """(curves, 3) of the surface: 1, ln(B/3), ln(D/2M)."""
    at: Floats
    """(curves, draws); NaN where the artificial curve is lowest at an end."""
    side: NDArray[np.intp]
    """(curves, draws) -1, 0 or +1: at the first fraction, between, at the last."""
    low: Floats
    """(curves, 1) the first fraction measured, in log-odds."""
    high: Floats

    def take(self, keep: Any) -> Minima:
        """Some of the curves, or the same one several times."""
        return Minima(**{name: value[keep] for name, value in vars(self).items()})


def observed(curves: Sequence[Curve], *, seed: int, draws: int = DRAWS) -> Minima:
    """The minima of curves that have five or more fractions between 0 and 1, with their uncertainty."""
    if not curves:
        raise DataError("no curve has 5 fractions between 0 and 1, so there is no minimum to fit a surface to")
    rng, noise = np.random.default_rng([seed, 5]), pooled_noise(list(curves))
    drawn = [artificial_minima(curve, noise, draws, rng) for curve in curves]
    (term,) = FractionSurface(c_0=0.0, c_B=0.0, c_D=0.0).every_term(inputs(curves))
    assert term.nonlinear is not None
    return Minima(
        columns=vars(term.nonlinear)["columns"],
        at=np.stack([at for at, _ in drawn]),
        side=np.stack([side for _, side in drawn]),
        low=np.array([[c.log_odds[0]] for c in curves]),
        high=np.array([[c.log_odds[-1]] for c in curves]),
    )


def inputs(curves: Sequence[Curve]) -> Inputs:
    """The points at which curves were measured; their fraction means nothing."""
    return Inputs.of(
        n=[c.n for c in curves], d_total=[c.d_total for c in curves], bits=[c.bits for c in curves], fraction=0.5
    )


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A fitted surface."""

    law: FractionSurface
    scatter: float
    """Standard deviation of measured log-odds about it, without the minima's own errors."""
    objective: float
    """Negative log-likelihood with the priors."""
    starts: int
    agreeing: int

    @property
    def vector(self) -> Floats:
        """(4,) coefficients and the log of the scatter."""
        return np.array([*self.law.params().values(), np.log(self.scatter)])


def solve(seen: Minima, *, seed: int = 0, begin: Floats | None = None) -> Surface:
    """The surface of largest likelihood (Tobin 1958: a minimum at an end says that the optimum lies beyond it).

    Each measured minimum is normal about the surface; its own error is averaged over, by its artificial curves.
    From `begin` one descent, otherwise from several starts.
    """
    rng = np.random.default_rng([seed, 6])
    starts = _PRIOR[:, 0] + _PRIOR[:, 1] * rng.standard_normal((_STARTS, 4)) if begin is None else begin[None, :]
    ends = [
        minimize(_objective, start, args=(seen,), jac=True, method="BFGS", options={"gtol": 1e-4}) for start in starts
    ]
    best = min(ends, key=lambda end: float(end.fun))
    c_0, c_b, c_d, log_scatter = best.x.tolist()
    return Surface(
        law=FractionSurface(c_0=c_0, c_B=c_b, c_D=c_d),
        scatter=float(np.exp(log_scatter)),
        objective=float(best.fun),
        starts=len(ends),
        agreeing=sum(float(end.fun) <= float(best.fun) + 1e-6 * (1 + abs(float(best.fun))) for end in ends),
    )


def _objective(vector: Floats, seen: Minima) -> tuple[float, Floats]:
    """(negative log-likelihood with priors, gradient) at the coefficients and the log of the scatter."""
    scatter = float(np.exp(np.clip(vector[3], -20.0, 20.0)))
    mean = (seen.columns @ vector[:3])[:, None]
    z = (seen.at - mean) / scatter
    logs, by_mean, by_scatter = -0.5 * z * z - np.log(scatter) - _HALF_LOG_2PI, z / scatter, z * z - 1.0
    ends = seen.side != 0
    beyond = np.where(seen.side > 0, mean - seen.high, seen.low - mean)[ends] / scatter
    tail = log_ndtr(beyond)
    hazard = np.exp(-0.5 * beyond * beyond - _HALF_LOG_2PI - tail)
    logs[ends], by_mean[ends], by_scatter[ends] = tail, seen.side[ends] * hazard / scatter, -hazard * beyond
    most = logs.max(axis=1, keepdims=True)
    share = np.exp(logs - most)
    total = share.sum(axis=1, keepdims=True)
    each, share = (most + np.log(total))[:, 0], share / total
    off = (vector - _PRIOR[:, 0]) / _PRIOR[:, 1]
    value = -float(np.sum(each)) + len(each) * float(np.log(logs.shape[1])) + 0.5 * float(np.sum(off * off))
    gradient = np.append(-(np.sum(share * by_mean, axis=1) @ seen.columns), -np.sum(share * by_scatter))
    return value, gradient + off / _PRIOR[:, 1]


def bootstrap(seen: Minima, best: Surface, cells: Sequence[int], *, draws: int, seed: int) -> Floats:
    """(draws, 3) coefficients, cells (size, budget, bits) drawn with replacement."""
    rng, members = np.random.default_rng([seed, 7]), np.asarray(cells)
    of_cell = [np.flatnonzero(members == cell) for cell in np.unique(members)]
    result = np.empty((draws, 3))
    for k in range(draws):
        chosen = np.concatenate([of_cell[i] for i in rng.integers(len(of_cell), size=len(of_cell))])
        result[k] = solve(seen.take(chosen), begin=best.vector).vector[:3]
    return result
