"""Numbers for people: as many digits as their uncertainty deserves, for a terminal or typeset for a page."""

from __future__ import annotations

import math
from dataclasses import dataclass

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_NARROW = "\u202f"
"""A space at which no line breaks."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Numbers:
    """How numbers are written. A page has true minus signs, raised exponents and thousands set apart."""

    page: bool

    def plain(self, value: float, digits: int = 4) -> str:
        """`digits` significant digits, powers of ten outside 0.001 to a million."""
        if not math.isfinite(value):
            return "unknown" if math.isnan(value) else "unbounded"
        if value and not 1e-3 <= abs(value) < 1e6:
            return self._scientific(value, digits - 1)
        kept = float(f"{value:.{digits}g}")
        return self._set(f"{kept:.{digits}g}" if abs(kept) < 10**digits else f"{kept:{',' if self.page else ''}.0f}")

    def estimate(self, value: float, interval: Interval | None, *, amplitude: bool = False) -> tuple[str, str]:
        """(value, "low to high"), all to the decimals at which a quarter of the interval's width has two digits.

        An amplitude, which is known up to a factor, has two digits at both ends of an interval that spans more than 20.
        """
        if interval is None or not all(map(math.isfinite, interval)) or interval[0] == interval[1]:
            ends = None if interval is None else [self.plain(end) for end in interval]
            return self.plain(value), "" if ends is None else " to ".join(ends)
        low, high = interval
        if amplitude and low > 0 and high > 20 * low:
            return self.plain(value, 2), f"{self.plain(low, 2)} to {self.plain(high, 2)}"
        decimals = 1 - math.floor(math.log10((high - low) / 4))
        return self._at(value, decimals), f"{self._at(low, decimals)} to {self._at(high, decimals)}"

    def span(self, low: float, high: float, digits: int = 3) -> str:
        """`low to high`, or one number where both read the same."""
        ends = self.plain(low, digits), self.plain(high, digits)
        return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"

    def percent(self, share: float, digits: int = 2) -> str:
        """A share as a percentage."""
        sign = f"{_NARROW if self.page else ' '}%"
        return f"under 0.01{sign}" if 0 < abs(share) < 1e-4 else f"{self.plain(100 * share, digits)}{sign}"

    def signed_percent(self, share: float) -> str:
        """A share as a percentage with its sign."""
        return self.percent(share) if abs(share) < 1e-4 else f"{'+' if share > 0 else ''}{self.percent(share)}"

    def _at(self, value: float, decimals: int) -> str:
        size = abs(value)
        if decimals > 6 or size >= 1e6:
            exponent = math.floor(math.log10(size)) if size else 0
            return self._scientific(value, max(0, min(16, exponent + decimals))) if size else "0"
        return self._set(self._fixed(round(value, decimals), max(decimals, 0)))

    def _fixed(self, value: float, decimals: int) -> str:
        return f"{value:,.{decimals}f}" if self.page and abs(value) >= 1e4 else f"{value:.{decimals}f}"

    def _scientific(self, value: float, decimals: int) -> str:
        text = f"{value:.{max(decimals, 0)}e}"
        if not self.page:
            return text
        mantissa, exponent = text.split("e")
        return f"{self._set(mantissa)} × 10{str(int(exponent)).translate(_RAISED)}"

    def _set(self, text: str) -> str:
        return text.replace("-", "−") if self.page else text


def three(value: float) -> str:
    """Three significant digits without an exponent."""
    return f"{float(f'{value:.3g}'):,.10g}"


TEXT = Numbers(page=False)
"""As a terminal shows them."""
PAGE = Numbers(page=True)
"""As a page sets them."""
plain, estimate, span, percent, signed_percent = PAGE.plain, PAGE.estimate, PAGE.span, PAGE.percent, PAGE.signed_percent
