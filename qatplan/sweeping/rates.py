"""The peak learning rate of the second phase, relative to the trunk's: a rule from measured rates. Imports no torch."""

from __future__ import annotations

import math

PARAMETERS = {
    "a": -3.840, "b": 0.112, "c": -0.434, "d": 0.075, "e": -1.383, "h": 1.907, "m": -0.111, "middle": -0.671,
    "log width": -0.532,
}  # fmt: skip
"""As `python benchmarks/qat_rates.py` prints them."""
LOWEST, HIGHEST = 0.025, 6.4
"""The rates that were tried: the rule goes no further."""
LONGEST = 0.99
"""A larger fraction is taken for this one."""


def qat_learning_rate(bits: float, fraction: float, tokens: float) -> float:
    """The best peak rate of a classic run's second phase over that of its trunk, to two digits.

    `bits` 16 is a second phase in full precision; `fraction` is D_qat / D_total, `tokens` D_total. Fitted to the runs
    of data/grid/tuning. A short second phase repairs what rounding does, gently the more was trained before; a long one
    trains anew, and goes up to three or four times the trunk's rate whatever the bits.
    """
    p, f = PARAMETERS, min(fraction, LONGEST)
    u, v, s = math.log(f / (1 - f)), math.log(tokens / 4e6), 2.0 ** (1 - bits)
    low = p["a"] + p["b"] * s + p["c"] * v + p["d"] * u + p["e"] * u * s
    high = p["h"] + p["m"] * v
    share = 1 / (1 + math.exp(-(u - p["middle"]) / math.exp(p["log width"])))
    rate = 2.0 ** (low + (high - low) * share)
    return float(f"{min(max(rate, LOWEST), HIGHEST):.2g}")
