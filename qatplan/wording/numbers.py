"""Numbers as a page shows them: as many digits as their uncertainty deserves, true minus signs, raised exponents."""

from __future__ import annotations

import math

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

_NARROW = "\u202f"
"""A space at which no line breaks."""

Interval = tuple[float, float]


def plain(value: float, digits: int = 4) -> str:
    """`digits` significant digits, powers of ten outside 0.001 to a million."""
    if not math.isfinite(value):
        return "unknown" if math.isnan(value) else "unbounded"
    if value and not 1e-3 <= abs(value) < 1e6:
        return _scientific(value, digits - 1)
    kept = float(f"{value:.{digits}g}")
    return _minus(f"{kept:.{digits}g}" if abs(kept) < 10**digits else f"{kept:,.0f}")


def estimate(value: float, interval: Interval | None, *, amplitude: bool = False) -> tuple[str, str]:
    """(value, "low to high"), all to the decimals at which a quarter of the interval's width has two digits.

    An amplitude, which is known up to a factor, has two digits at both ends of an interval that spans more than 20.
    """
    if interval is None or not all(map(math.isfinite, interval)) or interval[0] == interval[1]:
        return plain(value), "" if interval is None else f"{plain(interval[0])} to {plain(interval[1])}"
    low, high = interval
    if amplitude and low > 0 and high > 20 * low:
        return plain(value, 2), f"{plain(low, 2)} to {plain(high, 2)}"
    decimals = 1 - math.floor(math.log10((high - low) / 4))
    return _at(value, decimals), f"{_at(low, decimals)} to {_at(high, decimals)}"


def span(low: float, high: float, digits: int = 3) -> str:
    """`low to high`, or one number where both read the same."""
    ends = plain(low, digits), plain(high, digits)
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def percent(share: float, digits: int = 2) -> str:
    """A share as a percentage."""
    if 0 < abs(share) < 1e-4:
        return f"under 0.01{_NARROW}%"
    return f"{plain(100 * share, digits)}{_NARROW}%"


def signed_percent(share: float) -> str:
    """A share as a percentage with its sign."""
    return percent(share) if abs(share) < 1e-4 else f"{'+' if share > 0 else ''}{percent(share)}"


def _at(value: float, decimals: int) -> str:
    size = abs(value)
    if decimals > 6 or size >= 1e6:
        exponent = math.floor(math.log10(size)) if size else 0
        return _scientific(value, max(0, min(16, exponent + decimals))) if size else "0"
    return _minus(
        f"{round(value, decimals):.{max(decimals, 0)}f}"
        if size < 1e4
        else f"{round(value, decimals):,.{max(decimals, 0)}f}"
    )


def _scientific(value: float, decimals: int) -> str:
    mantissa, exponent = f"{value:.{max(decimals, 0)}e}".split("e")
    return f"{_minus(mantissa)} × 10{str(int(exponent)).translate(_RAISED)}"


def _minus(text: str) -> str:
    return text.replace("-", "−")
