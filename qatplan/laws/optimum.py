"""The QAT fraction that minimises a loss law, continuous, vectorised, for one law or for many parameter draws."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qatplan.errors import UsageError
from qatplan.laws.inputs import Floats, Inputs
from qatplan.laws.law import Law, predict_many, predict_rows
from qatplan.laws.qat_loss import QatLoss

_SPAN = 36.0  # logit(f) = +-36 is f within 2e-16 of an end: beyond it a double cannot tell f from 0 or 1
_INSIDE = 2.0**-53  # 1 minus this is the double next to 1
_STEPS = 60  # about 6 are needed; the bracket halves at worst
_WIDEST, _TRIES, _REFINEMENTS = 12.0, 97, 12  # of a search: log-odds, how many, and parabolas after them


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """Best split of the tokens. All arrays have one shape: (points,), or (draws, points) for many draws."""

    fraction: Floats
    loss: Floats
    """Nats per token at that fraction; NaN for the fraction law, which knows no loss."""
    end: NDArray[np.int8]
    """0 where the optimum is interior, +1 where the loss falls all the way to fraction 1, -1 where it falls to 0.

    Where the law itself has no value at that end, `fraction` is the nearest double inside.
    """

    @property
    def interior(self) -> NDArray[np.bool_]:
        """True where the optimum lies strictly between no QAT and only QAT."""
        inside: NDArray[np.bool_] = self.end == 0
        return inside


def optimal_fraction(
    law: Law, *, n: ArrayLike, d_total: ArrayLike, bits: ArrayLike, draws: Floats | None = None
) -> Optimum:
    """The fraction of lowest loss for N parameters, D_total tokens and a bit width (broadcast together).

    In `qat-loss` the loss at fixed N, D_total and bits is p*f^-omega + i*(1-f)^-xi*f^-rho + constants: log-convex
    terms, so it is convex in f and its one minimum is where the derivative vanishes. It is found by Newton steps in a
    coordinate of f in which the equation is nearly a straight line, exact to rounding. With xi = 0 or no interaction
    the loss falls up to fraction 1 (`end` +1); with omega = rho = 0 it falls towards 0 (`end` -1), where the law
    itself ends. For any other loss law that sees the split the lowest of all valleys on a grid in log-odds is refined
    by parabolas, to 1e-7 in log-odds.

    `draws` (K, parameters) are fitting coordinates (`Law.coordinates`); the result then has shape (K, points).
    Raises UsageError for a law that does not see the split.
    """
    x = Inputs.of(n=n, d_total=d_total, bits=bits, fraction=0.5)
    if not bool(np.all(x.quantized)):
        raise UsageError("bits is missing; an optimal QAT fraction needs a bit width")
    theta = law.coordinates()[None, :] if draws is None else np.asarray(draws, dtype=np.float64)
    if isinstance(law, QatLoss):
        fraction, end = _stationary(law, theta, x)
        fraction, loss = _evaluated(law, theta, x, fraction)
    elif law.quantity == "fraction":
        if (why := next(filter(None, law.outside(x)), None)) is not None:
            raise UsageError(why)
        fraction = predict_many(law, theta, x)
        loss, end = np.full(fraction.shape, np.nan), np.zeros(fraction.shape, np.int8)
    elif law.sees_fraction:
        fraction, loss, end = _searched(law, theta, x)
    else:
        raise UsageError(f"law {law.name} does not depend on the QAT fraction; use a law that does, such as qat-loss")
    if draws is None:
        fraction, loss, end = fraction[0], loss[0], end[0]
    return Optimum(fraction=fraction, loss=loss, end=end)


def _stationary(law: QatLoss, theta: Floats, x: Inputs) -> tuple[Floats, NDArray[np.int8]]:
    """Fraction and end flag, (draws, points): root of d loss / d logit(f), which changes sign once."""
    col = {p.name: theta[:, i, None] for i, p in enumerate(law.parameters())}
    bits, log_n, log_s = x.bits[None, :], np.log(x.n)[None, :], np.log(x.s_total)[None, :]
    with np.errstate(invalid="ignore"):
        penalty = col["phi"] - np.log(2.0) * col["chi"] * bits - col["psi"] * log_n - col["omega"] * log_s
        both = col["lam"] - np.log(2.0) * col["mu"] * bits - col["nu"] * log_n - (col["xi"] + col["rho"]) * log_s
    if law.phi == 0:
        penalty = np.full_like(penalty, -np.inf)
    if law.lam == 0:
        both = np.full_like(both, -np.inf)
    xi, rho, omega = col["xi"], col["rho"], col["omega"]
    # Only their ratio matters for the sign; subtracting the larger keeps exp in range.
    level = np.maximum(penalty, both)
    level = np.where(np.isfinite(level), level, 0.0)
    penalty, both = penalty - level, both - level

    def slope(u: float) -> Floats:
        """f * dL/df up to a positive factor; f/(1-f) = exp(u)."""
        log_f, log_g = -np.logaddexp(0.0, -u), -np.logaddexp(0.0, u)
        falling = omega * np.exp(penalty - omega * log_f)
        crossing = np.exp(both - xi * log_g - rho * log_f)
        result: Floats = crossing * (xi * np.exp(u) - rho) - falling
        return result

    end = np.where(slope(_SPAN) <= 0, 1, np.where(slope(-_SPAN) >= 0, -1, 0)).astype(np.int8)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        u0 = np.log(rho) - np.log(xi)
        offset = both + np.log(xi) - penalty - np.log(omega)
        # Without an interaction there is no such u; the end flag stands then.
        u = _root(offset, u0, xi, rho, omega)
        fraction = np.exp(-np.logaddexp(0.0, -u))
    return np.where(end == 1, 1.0, np.where(end == -1, 0.0, fraction)), end


def _root(offset: Floats, u0: Floats, xi: Floats, rho: Floats, omega: Floats) -> Floats:
    """u at which h = 0; without a penalty that falls (offset +inf) it is u0. Meaningless where the end flag is set."""
    # h is the log of (interaction's rise / penalty's fall). In w = log(exp(u) - exp(u0)) its slope lies between 1 and
    # 1 + xi + omega, so one value of h brackets the root and Newton steps converge from anywhere.

    def at(w: Floats) -> tuple[Floats, Floats, Floats]:
        """(u, h, dh/dw)."""
        u = np.logaddexp(w, u0)
        log_f, log_g = -np.logaddexp(0.0, -u), -np.logaddexp(0.0, u)
        h = offset + w - xi * log_g + (omega - rho) * log_f
        share, f = np.exp(w - u), np.exp(log_f)
        return u, h, 1.0 + share * (xi * f * share + omega * np.exp(log_g))

    w = np.zeros(offset.shape)
    u, h, rise = at(w)
    steepest = 1.0 + xi + omega
    low, high = w - np.where(h > 0, h, h / steepest), w - np.where(h > 0, h / steepest, h)
    for _ in range(_STEPS):
        low, high = np.where(h < 0, np.maximum(low, w), low), np.where(h > 0, np.minimum(high, w), high)
        step = w - h / rise
        step = np.where((step >= low) & (step <= high), step, 0.5 * (low + high))
        moved = np.abs(step - w)
        w = step
        u, h, rise = at(w)
        # The error after a step is the step squared, times a slope's relative change of at most 1.
        if not np.any(moved > 1e-9 * (1.0 + np.abs(w))):
            break
    return np.where(np.isposinf(offset), u0, u)


def _searched(law: Law, theta: Floats, x: Inputs) -> tuple[Floats, Floats, NDArray[np.int8]]:
    """(fraction, loss, end) of the lowest loss over the split, (draws, points), by search alone."""
    shape = (len(theta), len(x))

    def losses(log_odds: Floats) -> Floats:
        """(draws, points, tries) at log-odds of that shape."""
        tries = log_odds.shape[2]
        points = x.take(np.tile(np.repeat(np.arange(shape[1]), tries), shape[0]))
        share = 1.0 / (1.0 + np.exp(-log_odds.ravel()))
        every = np.repeat(theta, shape[1] * tries, axis=0)
        return predict_rows(law, every, _at(points, share)).reshape(log_odds.shape)

    grid = np.linspace(-_WIDEST, _WIDEST, _TRIES)
    found = losses(np.broadcast_to(grid, (*shape, _TRIES)))
    best = np.argmin(found, axis=2)
    at, step = grid[best], np.full(shape, grid[1] - grid[0])
    loss = np.take_along_axis(found, best[..., None], axis=2)[..., 0]
    for _ in range(_REFINEMENTS):
        low, high = (losses((at + side * step)[..., None])[..., 0] for side in (-1, 1))
        bend = low + high - 2.0 * loss
        with np.errstate(divide="ignore", invalid="ignore"):
            move = np.where(bend > 0, 0.5 * step * (low - high) / bend, np.where(low < high, -step, step))
        moved = np.clip(at + np.clip(move, -step, step), -_WIDEST, _WIDEST)
        tried = losses(moved[..., None])[..., 0]
        better = tried < loss
        at, loss, step = np.where(better, moved, at), np.where(better, tried, loss), step / 4.0
    fraction, end = 1.0 / (1.0 + np.exp(-at)), np.zeros(shape, np.int8)
    for side in (-1, 1):
        share = 0.0 if side < 0 else 1.0
        corner = predict_many(law, theta, _at(x, np.full(shape[1], share)))
        lower = np.where(np.isfinite(corner), corner <= loss, np.abs(at - side * _WIDEST) < 1e-9)
        fraction, end = np.where(lower, share, fraction), np.where(lower, side, end).astype(np.int8)
        loss = np.where(lower & np.isfinite(corner), corner, loss)
    return fraction, loss, end


def _evaluated(law: QatLoss, theta: Floats, x: Inputs, fraction: Floats) -> tuple[Floats, Floats]:
    """(fraction, loss) of each draw, (draws, points); an end at which the law has no value is left by a hair."""
    shape = fraction.shape
    rows = np.repeat(theta, shape[1], axis=0)
    every = x.take(np.tile(np.arange(shape[1]), shape[0]))
    share = fraction.ravel().copy()
    loss = predict_rows(law, rows, _at(every, share))
    lost = ~np.isfinite(loss)
    if np.any(lost):
        # The loss falls towards an end that is itself singular, or a double has no number between it and the optimum.
        share[lost] = np.clip(share[lost], _INSIDE, 1.0 - _INSIDE)
        loss[lost] = predict_rows(law, rows[lost], _at(every.take(lost), share[lost]))
    return share.reshape(shape), loss.reshape(shape)


def _at(x: Inputs, fraction: Floats) -> Inputs:
    return replace(x, d_fp=x.d_total * (1.0 - fraction), d_qat=x.d_total * fraction)
