"""Counts and bytes: read what people write ("1.5B", "4GiB") and print it back, and durations printed.

Counts and bytes have separate parsers on purpose: the B of "1.5B" is a billion, the B of "4GB" is a byte, and each
parser refuses the other's notation instead of guessing.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

from qatplan.errors import UsageError, shorten

_NUMBER = r"([+-]?(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)"
_QUANTITY = re.compile(rf"\s*{_NUMBER}\s*([^\d\s]\S*)?\s*")

_COUNT_SCALES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_COUNT_NOUNS = re.compile(r"\s+(?:tokens?|params?|parameters?)\s*$", re.IGNORECASE)
_BYTE_SCALES = {
    "bytes": 1,
    "byte": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


def parse_count(value: str | int | float) -> float:
    """Number of parameters, tokens or operations: `300M`, `1.5B`, `2e9`, `300B tokens`; K, M, B, T are powers of 1000.

    Raises UsageError for a byte unit (`4GB`), a bit rate, a negative or a non-finite number.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _finite(_real(value), shorten(f"{_real(value):g}"), "a count")
    text = str(value)
    number, suffix = _split(_COUNT_NOUNS.sub("", text), text, "a count such as 300M, 1.5B or 2e9")
    scale = _COUNT_SCALES.get(suffix.lower())
    if scale is None:
        if suffix.lower() in _BYTE_SCALES:
            raise UsageError(f"'{text}' is a number of bytes where a count is expected; write for instance 4B or 4e9.")
        if suffix.lower() == "g":
            raise UsageError(f"'{text}' is ambiguous: write {text.strip()[:-1].strip()}B for billions.")
        raise UsageError(f"'{text}' is not a count: '{suffix}' is none of K, M, B, T.")
    return _finite(_real(number * scale), text, "a count")


def parse_bytes(value: str | int | float) -> int:
    """Number of bytes, whole: `4GiB` (powers of 1024), `3.5GB` (powers of 1000), `500MiB`, or a plain number of bytes.

    Raises UsageError for a count (`1.5B`), for bits (`4Gb`), a negative number or a fraction of a byte.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        _finite(_real(value), f"{_real(value):g}", "a number of bytes")
        number, suffix, text = Fraction(value), "", str(value)
    else:
        text = str(value)
        number, suffix = _split(text, text, "a number of bytes such as 4GiB, 3.5GB or 500MiB")
    if suffix.lower() in ("b", "k", "m", "g", "t"):
        raise UsageError(f"'{text}' does not say which bytes: write for instance 4GiB (2^30) or 4GB (10^9).")
    if re.fullmatch(r"[KMGT]i?b", suffix):
        raise UsageError(f"'{text}' reads as bits: write {suffix[:-1]}B for bytes.")
    scale = _BYTE_SCALES.get(suffix.lower() or "bytes")
    if scale is None:
        raise UsageError(f"'{text}' is not a number of bytes: '{suffix}' is none of KB, MB, GB, TB and KiB to TiB.")
    total = number * scale
    if total < 0:
        raise UsageError(f"'{text}' is negative; a number of bytes is 0 or more.")
    # A written fraction such as 3.5GB is whole; 1.3GiB is not, and the nearest byte below is what fits in it.
    if suffix.lower() in ("", "byte", "bytes") and total.denominator != 1:
        raise UsageError(f"'{text}' is a fraction of a byte.")
    return math.floor(total)


def parse_loss(value: str | int | float) -> tuple[float, str | None]:
    """(loss, unit) of a loss per token or per byte of text: `2.1`, `2.1 nats/token`, `0.9 bits/byte`.

    The unit is nats/token, bits/byte, or None where it is not said. Raises UsageError for anything else.
    """
    text = str(value)
    number, suffix = _split(text.replace(" per ", "/"), text, "a loss such as 2.1 nats/token or 0.9 bits/byte")
    unit = {"": None, "nats/token": "nats/token", "nats": "nats/token", "bits/byte": "bits/byte", "bpb": "bits/byte"}
    if suffix.lower() not in unit:
        raise UsageError(f"'{shorten(text)}' is no loss: its unit is none of nats/token, bits/byte.")
    return _real(number), unit[suffix.lower()]


def bits_per_byte(loss: float, bytes_per_token: float) -> float:
    """A loss in nats per token as bits per byte of text."""
    return loss / (math.log(2.0) * bytes_per_token)


def format_count(value: float, *, digits: int = 3) -> str:
    """`1.5B` for 1.5e9: at least `digits` significant digits, then K, M, B or T; beyond those, an exponent."""
    return _format(value, [("", 1.0), ("K", 1e3), ("M", 1e6), ("B", 1e9), ("T", 1e12)], digits)


def format_bytes(value: float, *, digits: int = 3) -> str:
    """`4 GiB` for 2**32: at least `digits` significant digits, powers of 1024."""
    scales = [(" bytes", 1.0), (" KiB", 2.0**10), (" MiB", 2.0**20), (" GiB", 2.0**30), (" TiB", 2.0**40)]
    return _format(value, scales, digits, base=1024.0)


def format_duration(seconds: float) -> str:
    """`250ms`, `12.5s`, `3m20s`, `2h05m`, `3d4h`: the two leading units, rounded."""
    if not math.isfinite(seconds) or seconds < 0:
        raise UsageError(f"{seconds} is not a duration: it must be finite and not negative.")
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g}ms" if seconds else "0s"
    if seconds < 59.95:
        return f"{seconds:.3g}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60}h{minutes % 60:02d}m"
    hours = round(seconds / 3600)
    return f"{hours // 24}d{hours % 24}h"


def _split(text: str, shown: str, expected: str) -> tuple[Fraction, str]:
    """The exact number and the suffix written in `text`; Fractions keep 1.1B exactly 1,100,000,000."""
    if "," in text:
        raise UsageError(f"'{shown}' has a comma: write the number without separators, or with a decimal point.")
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise UsageError(f"'{shown}' is not {expected}.")
    digits = match.group(1).replace("_", "").lower().replace(".e", "e").rstrip(".")
    # An exponent or a length beyond any meaning would make an enormous exact integer.
    mantissa, _, exponent = digits.partition("e")
    if len(mantissa) > 300 or abs(int(exponent[:6] or 0)) > 300:
        raise UsageError(f"'{shorten(shown)}' is not {expected}: it is out of range.")
    return Fraction(digits), match.group(2) or ""


def _real(number: Fraction | float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _finite(number: float, text: str, kind: str) -> float:
    if not math.isfinite(number) or number < 0:
        raise UsageError(f"'{text}' is not {kind}: it must be finite and not negative.")
    return number


def _format(value: float, scales: list[tuple[str, float]], digits: int, base: float = 1000.0) -> str:
    if not math.isfinite(value):
        raise UsageError(f"{value} cannot be shown as a quantity: it must be finite.")
    if digits < 1:
        raise UsageError(f"digits is {digits}; it must be 1 or more.")
    if abs(value) < base and value == int(value):
        return f"{int(value)}{scales[0][0]}"
    for suffix, scale in scales:
        shown = f"{value / scale:.{digits}g}"
        if "e+" in shown:
            shown = f"{value / scale:.0f}"
        # Compare after rounding, so that 999,999 reads 1M and never 1000K.
        if abs(float(shown)) < base:
            return shown + suffix
    if base == 1000.0:
        return f"{value:.{digits}g}"
    suffix, scale = scales[-1]
    return f"{value / scale:.{digits}g}{suffix}"
