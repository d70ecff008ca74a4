"""How far a plan lies outside what was measured, and whether it may be relied upon."""

from __future__ import annotations

import math
from dataclasses import dataclass

from qatplan.laws import FittedLaw, Inputs
from qatplan.laws import Status as FitStatus
from qatplan.laws.fitted import Worded


class PlanStatus(Worded):
    """How a plan ended."""

    GOOD = "good", "within the stated factor of what was measured, from a fit that passed its checks"
    EXTRAPOLATES = "extrapolates", "too far outside what was measured to be relied upon"
    UNCERTAIN_FIT = "fit-not-trustworthy", "made from a fit that did not pass its own checks"
    SPLIT_DISPUTED = "split-disputed", "disputed: two laws put the best QAT fraction where the other does not"
    FRACTION_ONLY = "fraction-only", "the fraction alone; losses and the choice of bits need a sweep of one's own"

    @property
    def trustworthy(self) -> bool:
        """False for what must not be relied upon."""
        return self in (PlanStatus.GOOD, PlanStatus.FRACTION_ONLY)


WITHHELD = 1000.0
"""Factor outside the fitted range from which a fit has nothing to say."""


@dataclass(frozen=True, kw_only=True)
class Extrapolation:
    """Distance from the fitted range."""

    factor: float | None
    """Largest factor by which parameters, tokens, their ratio or the fraction lie outside; 1 inside; None unknown."""
    limit: float
    """Factor from which the answer is not to be trusted."""
    factors: dict[str, float]
    """The factor of each quantity."""
    bits_outside: float
    """Bits by which the bit width lies outside the fitted ones."""
    sentences: tuple[str, ...]
    beyond: bool
    """True when the plan is not to be trusted for it: a factor above the limit, or bits outside by more than 1."""

    @property
    def withheld(self) -> bool:
        """True where the law's numbers are shown only to those who ask for details."""
        return self.factor is not None and self.factor > WITHHELD


def extrapolation(fit: FittedLaw, x: Inputs, *, limit: float) -> Extrapolation:
    """Distance of one point from the fitted range."""
    values = {"n": float(x.n[0]), "d_total": float(x.d_total[0]), "s_total": float(x.s_total[0])}
    if fit.law.sees_fraction and x.quantized[0] and x.fraction[0] > 0:
        values["fraction"] = float(x.fraction[0])
    known = {key: (value, *fit.ranges[key]) for key, value in values.items() if key in fit.ranges and value < math.inf}
    factors = {k: max(v / high if high > 0 else 1.0, low / v, 1.0) for k, (v, low, high) in known.items()}
    factor, bits = max(factors.values(), default=None), float(x.bits[0])
    low, high = (bits, bits) if math.isnan(bits) else fit.ranges.get("bits", (bits, bits))
    outside = max(0.0, bits - high, low - bits)
    return Extrapolation(
        factor=factor,
        limit=limit,
        factors=factors,
        bits_outside=outside,
        sentences=tuple(fit.extrapolation(x)),
        beyond=(factor is not None and factor > limit * (1 + 1e-9)) or outside > 1.0,
    )


def status_of(fit: FittedLaw, distance: Extrapolation) -> PlanStatus:
    """A fit that failed its own checks outweighs any distance."""
    if fit.status is not FitStatus.GOOD:
        return PlanStatus.UNCERTAIN_FIT
    return PlanStatus.EXTRAPOLATES if distance.beyond else PlanStatus.GOOD
