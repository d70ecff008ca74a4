"""Whether quantization costs more or less as training gets longer: on that the laws of the literature disagree."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qatplan.laws.fit_parts import Pair
from qatplan.laws.fitted import FittedLaw
from qatplan.laws.inputs import Inputs

FRACTION = 0.2
"""The QAT fraction at which it is asked."""
_STEP = 0.05


@dataclass(frozen=True, kw_only=True)
class PenaltySlope:
    """Change of (loss at a bit width - loss in full precision) with ln D, at fixed N and QAT fraction."""

    bits: float
    n: float
    d_total: float
    """Where it is taken: the geometric middle of the fitted range."""
    slope: float
    """Nats per token for tokens e times as many."""
    interval: Pair | None
    """From the fit's draws."""

    @property
    def sign(self) -> int:
        """+1 where it grows, -1 where it falls, 0 where the interval holds both."""
        low, high = self.interval or (self.slope, self.slope)
        return 1 if low > 0 else -1 if high < 0 else 0


def penalty_slope(fitted: FittedLaw, bits: float) -> PenaltySlope | None:
    """The slope at a bit width; None for a law without a loss, ranges, or a value there.

    Chen et al. 2025 (arXiv 2505.14302) and Kumar et al. 2024 (arXiv 2411.04330) found that it grows; every term of the
    unified law (arXiv 2509.22935) falls.
    """
    if fitted.law.quantity != "loss" or not {"n", "d_total"} <= fitted.ranges.keys():
        return None
    n, d = (math.sqrt(low * high) for low, high in (fitted.ranges["n"], fitted.ranges["d_total"]))
    tokens = [d * math.exp(_STEP), d * math.exp(-_STEP)]
    quantized = Inputs.of(n=n, d_total=tokens, bits=bits, fraction=FRACTION)
    full = Inputs.of(n=n, d_total=tokens)
    if any(fitted.law.outside(quantized)) or any(fitted.law.outside(full)):
        return None
    gap = fitted.law.predict(quantized) - fitted.law.predict(full)
    interval = None
    if fitted.draws is not None and len(fitted.draws):
        drawn = fitted.predictor()
        gaps = drawn.drawn(quantized) - drawn.drawn(full)
        low, high = drawn.interval((gaps[:, :1] - gaps[:, 1:]) / (2 * _STEP))
        interval = float(np.ravel(low)[0]), float(np.ravel(high)[0])
    return PenaltySlope(bits=bits, n=n, d_total=d, slope=float(gap[0] - gap[1]) / (2 * _STEP), interval=interval)
