"""Numbers for people: as many digits as their uncertainty deserves."""

from __future__ import annotations

import math


def value_with_interval(value: float, interval: tuple[float, float] | None) -> tuple[str, str]:
    """(value, "low to high"), all three to the decimals at which a quarter of the width has two digits."""
    if interval is None or not all(map(math.isfinite, interval)) or interval[0] == interval[1]:
        shown = "" if interval is None else f"{_plain(interval[0])} to {_plain(interval[1])}"
        return _plain(value), shown
    low, high = interval
    if low > 0 and high > 20 * low and high > 1e3:
        # Over such a range only the order of magnitude is known.
        return f"{value:.2g}", f"{low:.2g} to {high:.2g}"
    decimals = 1 - math.floor(math.log10((high - low) / 4))
    return rounded(value, decimals), f"{rounded(low, decimals)} to {rounded(high, decimals)}"


def rounded(value: float, decimals: int) -> str:
    """Fixed notation where that is readable, powers of ten elsewhere."""
    if not math.isfinite(value):
        return "unbounded"
    size = abs(value)
    if decimals > 6 or size >= 1e6:
        digits = max(1, min(17, (math.floor(math.log10(size)) if size else 0) + decimals + 1))
        return f"{value:.{digits - 1}e}"
    return f"{round(value, decimals):.{max(decimals, 0)}f}"


def percent(share: float) -> str:
    """A share as a percentage with two significant digits."""
    return f"{100 * share:.2g} %"


def _plain(value: float) -> str:
    return f"{value:.5g}" if math.isfinite(value) else "unbounded"
