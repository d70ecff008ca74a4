"""One cell of a foreign table as the value of one of our fields, or the reason why it cannot be."""

from __future__ import annotations

import math
import re
from typing import Any

import pyarrow as pa

from qatplan.errors import UsageError
from qatplan.importing.formats import widths
from qatplan.runs.schema import DIVERGED, FIELDS, FINISHED, Field
from qatplan.units import parse_count

MISSING = frozenset({"", "null", "none", "na", "n/a", "<na>"})
"""Texts that stand for no value, in any case."""
BIT_FIELDS = frozenset({"bits", "activation_bits", "embedding_bits"})
_FINISHED = frozenset({"finished", "completed", "complete", "done", "success", "succeeded", "ok", "passed"})
_ROUND_FROM = 1e4
"""Counts above this are rounded to a whole number."""

TEXTS = frozenset(field.name for field in FIELDS if pa.types.is_string(field.type))
"""Fields that are words."""
WHOLE = frozenset(field.name for field in FIELDS if pa.types.is_integer(field.type))
"""Fields that are whole numbers."""
_SURELY_FITS = 2**31
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?")
_CLOCK = re.compile(r"(?:(\d+) days? )?(\d+):(\d\d):(\d\d(?:\.\d+)?)")
_WHOLE = re.compile(r"[+-]\d{1,400}")


class CellError(Exception):
    """A cell that cannot be the value of its field; the text is the reason."""


def number(value: Any) -> int | float | None:
    """A cell as a number: integers of any size stay exact, counts such as `50M` are read, None where missing.

    Raises CellError for anything else; NaN and infinities are returned for the caller to judge.
    """
    if isinstance(value, bool):
        raise CellError(f"is {value}, not a number")
    if value is None or isinstance(value, (int, float)):
        return value
    text = str(value).strip()
    # Python's own readers first: a large table has millions of cells.
    if text.isdecimal() and text.isascii() and len(text) <= 400:
        return int(text)
    try:
        found = float(text)
    except ValueError:
        pass
    else:
        return int(text) if _WHOLE.fullmatch(text) else found
    if text.lower() in MISSING:
        return None
    if _THOUSANDS.fullmatch(text):
        return number(text.replace(",", ""))
    if text.endswith("%") and (share := number_or_none(text[:-1])) is not None:
        return share / 100
    try:
        count = parse_count(text)
    except UsageError:
        raise CellError(f"is '{text}', not a number") from None
    return int(count) if count.is_integer() else count


def number_or_none(value: Any) -> int | float | None:
    """A cell as a number; None for one that is missing or none."""
    try:
        return number(value)
    except CellError:
        return None


def fraction(value: Any) -> float | None:
    """A cell as a share of 1, None where missing; CellError for anything else."""
    found = number(value)
    if found is not None and not 0 <= found <= 1:
        raise CellError(f"is {found}; a fraction lies between 0 and 1")
    return None if found is None else float(found)


def convert(value: Any, field: Field, *, rounded: bool = False) -> Any:
    """A cell as the value of `field`, None where missing; `rounded` allows a computed count to be rounded to a whole.

    Raises CellError with the reason.
    """
    if field.name in TEXTS:
        return _status(value) if field.name == "status" else _text(value)
    if field.name in BIT_FIELDS:
        return _bits(value)
    if field.name == "seconds" and isinstance(value, str) and (clock := _CLOCK.fullmatch(value.strip())):
        days, hours, minutes, seconds = (float(part or 0) for part in clock.groups())
        return 86400 * days + 3600 * hours + 60 * minutes + seconds
    found = number(value)
    if found is None:
        return None
    return _whole(found, field, rounded) if field.name in WHOLE else _real(found, field)


def _whole(found: int | float, field: Field, rounded: bool) -> int | None:
    if isinstance(found, int) and -_SURELY_FITS < found < _SURELY_FITS:
        return found
    if isinstance(found, float):
        if math.isnan(found):
            return None
        if math.isinf(found):
            raise CellError(f"is {found}; it must be finite")
        # A count read off a figure is no whole number; a fraction of a small one is a mistake.
        if not found.is_integer() and not rounded and not (field.type == pa.int64() and found > _ROUND_FROM):
            raise CellError(f"is {found!r}; it must be a whole number")
        found = round(found)
    limit = 2 ** (field.type.bit_width - 1)
    if not -limit <= found < limit:
        raise CellError(f"is {found}, beyond {field.type.bit_width}-bit integers (the largest is {limit - 1})")
    return found


def _real(found: int | float, field: Field) -> float | None:
    try:
        value = float(found)
    except OverflowError:
        raise CellError(f"is {found}, beyond the range of numbers") from None
    if math.isfinite(value):
        return value
    if math.isnan(value) and field.name != "loss":
        return None
    raise CellError(f"is {'NaN' if math.isnan(value) else value}; it must be finite")


def _bits(value: Any) -> float | None:
    """Bits per weight; 16 and more, and the names of 16- and 32-bit formats, are full precision, which is null."""
    text = "" if value is None else str(value).strip()
    if text.lower() in MISSING or text.lower() == "nan":
        return None
    try:
        bits = float(text)
    except ValueError:
        named = widths(text)
        if named is None:
            raise CellError(f"is '{value}', which names no number of bits") from None
        return named.weights
    return None if bits >= 16 else bits


def _text(value: Any) -> str | None:
    text = "" if value is None or value != value else str(value).strip()
    return None if text.lower() in MISSING else text


def _status(value: Any) -> str | None:
    text = _text(value)
    if text is None or text.lower() == DIVERGED:
        return text and DIVERGED
    if text.lower() in _FINISHED:
        return FINISHED
    raise CellError(f"is '{text}': the run has not finished, so its loss is not a final one")
