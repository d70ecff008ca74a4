"""Variance components of residuals: a random effect of each trunk, and each run's own noise; and new ones like them.

Trunks are few, so the variance of their effects is known badly. Part of an effect is *visible*: it remains in the
residuals, where its size was measured. The rest is *absorbed*: amplitudes and exponents of model size follow it, and
how large it is can only be inferred from the visible part. A bootstrap that treats both alike makes some intervals too
narrow or the others too wide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qatplan.fitting.rows import Rows
from qatplan.laws.inputs import Floats

FEW_TRUNKS = 20
"""With fewer trunks, drawing whole ones leaves sizes out, and sums of scores by trunk say next to nothing."""
_VISIBLE = 0.5
"""What the fit leaves of a pattern of trunk effects, as a share of its size, for it to count as visible."""
_NOTHING = 1e-6
_LEAST = 0.1
"""Of the variance of a run's own noise: what the fit must leave of it for its residual to say something about it."""


@dataclass(frozen=True, kw_only=True)
class VarianceComponents:
    """Variance components of residuals."""

    own: Floats
    """(rows,) each run's own part, at the size of its noise; NaN where the fit leaves too little of it."""
    trunk_effect: float
    """Standard deviation of the trunk effects; 0 where no runs share a trunk, or no effect is visible."""
    freedom: float
    """Degrees of freedom that speak about `trunk_effect`."""
    visible: Floats
    """(trunks, trunks): takes effects of trunks to the part that residuals show."""


def variance_components(error: Floats, rows: Rows, slopes: Floats) -> VarianceComponents:
    """Own noise and trunk effects behind the residuals (rows,) of a fit whose Jacobian is `slopes` (rows, parameters).

    Henderson's third method (Biometrics 9, 1953): a least-squares fit of law and trunks together leaves nothing but own
    noise; what it takes off the squares beyond a fit of the law alone is
    the trunk effects, and own noise once for each direction.
    The residuals of the Huber fit would not do: its errors, which trunk effects cause, are in them with a pattern that
    resampling would take for noise.
    """
    n, size = slopes.shape
    basis = np.linalg.qr(slopes)[0]
    left = error - basis @ (basis.T @ error)
    none = VarianceComponents(own=_undone(left, basis), trunk_effect=0.0, freedom=1.0, visible=np.zeros((0, 0)))
    if not rows.clustered:
        return none
    member = np.zeros((n, int(rows.cluster.max()) + 1))
    member[np.arange(n), rows.cluster] = 1.0
    root = np.sqrt(member.sum(axis=0))
    remains, share, pattern = np.linalg.svd((member - basis @ (basis.T @ member)) / root, full_matrices=False)
    remains = remains[:, share > _NOTHING]
    along = remains.T @ left
    own = left - remains @ along
    freedom = n - size - len(along)
    if freedom < 1 or len(along) < 2:
        return none
    own_variance = float(np.sum(own**2)) / freedom
    # The squares along `remains` are a quadratic form of the trunks' effects: its trace is what one unit of their
    # variance adds to them, and with the form squared it gives the degrees of freedom (Satterthwaite).
    effect = remains.T @ member
    form = effect.T @ effect
    effect_variance = (float(np.sum(along**2)) - own_variance * len(along)) / float(np.trace(form))
    if effect_variance <= 0 or own_variance <= 0:
        return none
    seen = pattern[share > _VISIBLE]
    return VarianceComponents(
        own=_undone(own, np.column_stack([basis, remains])),
        trunk_effect=float(np.sqrt(effect_variance)),
        freedom=max(float(np.trace(form) ** 2 / np.sum(form**2)), 2.0),
        visible=(seen.T @ seen) * root / root[:, None],
    )


def _undone(left: Floats, basis: Floats) -> Floats:
    """Residuals of a projection onto `basis` at the size that the errors had: over the root of 1 minus the leverage.

    Without that, rows of much leverage have small residuals, and a Huber fit of residuals drawn among all would be
    surer than that of the errors (Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 6.2).
    """
    remains = 1.0 - np.sum(basis**2, axis=1)
    if not np.any(remains >= _LEAST):
        return left
    return np.where(remains >= _LEAST, left / np.sqrt(np.maximum(remains, _LEAST)), np.nan)


def noise_like(components: VarianceComponents, rows: Rows, count: int, rng: np.random.Generator) -> Floats:
    """Artificial noise (count, rows): own noise resampled within the same bit width, with either sign, and effects."""
    noise = np.zeros((count, len(rows)))
    known = np.isfinite(components.own)
    for group in _pools(rows.x.bits):
        pool = components.own[group][known[group]]
        noise[:, group] = rng.choice(pool if len(pool) else components.own[known], size=(count, len(group)))
    # Else the mean of a pool would be noise that its runs share.
    noise *= rng.choice([-1.0, 1.0], size=noise.shape)
    return noise if components.trunk_effect == 0.0 else noise + effects_like(components, count, rng)[:, rows.cluster]


def effects_like(components: VarianceComponents, count: int, rng: np.random.Generator) -> Floats:
    """Artificial effects (count, trunks), normal; of their absorbed part the size is drawn too.

    It is drawn from what the degrees of freedom leave open, which gives it the tails of a t distribution.
    """
    effects = components.trunk_effect * rng.standard_normal((count, len(components.visible)))
    seen = effects @ components.visible.T
    stretch = np.sqrt(components.freedom / rng.chisquare(components.freedom, size=(count, 1)))
    drawn: Floats = seen + stretch * (effects - seen)
    return drawn


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
