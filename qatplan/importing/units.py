"""Units that the name of a column gives away: `val_ppl`, `loss_bits`, `params_M`, `tokens (B)`, `flops (1e18)`.

Where the name leaves one reading, a column mapped as it stands is converted and a note says so; where it leaves two, or
where the conversion needs a number that no table has, the mapping is refused with the factor.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from qatplan.errors import UsageError
from qatplan.importing.recognise import normalised

COUNTS = frozenset({"n_total", "n_embedding", "n_nonembedding", "d_total", "d_fp", "d_qat", "batch_tokens"})
_PERPLEXITY = re.compile(r"(?:^|_)(?:ppl|perplexity|pplx)(?:$|_)")
_PER_TEXT = re.compile(r"(?:^|_)(?:bpb|bpc|bits?_per_(?:byte|char(?:acter)?))(?:$|_)|(?:loss|nats?)_per_(?:byte|char)")
_BITS = re.compile(r"(?:^|(?<![0-9])_)(?:bits?|bits?_per_token|log2|bpt)(?:$|_)")
_LOG10 = re.compile(r"(?:^|_)log10(?:$|_)")
_SCALES = {
    "k": 1e3, "thousand": 1e3, "thousands": 1e3, "m": 1e6, "mm": 1e6, "million": 1e6, "millions": 1e6, "mio": 1e6,
    "b": 1e9, "g": 1e9, "bn": 1e9, "billion": 1e9, "billions": 1e9, "t": 1e12, "trillion": 1e12, "trillions": 1e12,
}  # fmt: skip
_POWER = re.compile(r"(?:^|[\s_(\[/x*])(?:1e\+?|10\^|10\*\*)(\d{1,2})[\s)\]]*$", re.IGNORECASE)
_SUFFIX = re.compile(r"(?:[_\s.\-]+|[\s_]*[\[(]\s*)(?:in[_\s]+)?([A-Za-z]+)\s*[\])]?$")
_LARGEST_COUNT = 1e17
"""Parameters or tokens beyond any run: a column of more, once scaled, is not in the unit of its name."""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What is to be written instead of a column, and why."""

    formula: str
    reason: str


def scale(column: str) -> float | None:
    """The power of ten that a column of counts is in by its name; None where the name says none.

    >>> scale("params_M"), scale("tokens (B)"), scale("flops (1e18)"), scale("tokens")
    (1000000.0, 1000000000.0, 1e+18, None)
    """
    power = _POWER.search(column)
    if power is not None:
        return 10.0 ** int(power[1])
    suffix = _SUFFIX.search(column.strip())
    return None if suffix is None else _SCALES.get(suffix[1].lower())


def conversion(column: str, field: str, values: Iterable[float]) -> Conversion | None:
    """How a column becomes `field`; None where its name gives no other unit away. `values` are its numbers.

    Raises UsageError with the factor where the name has two readings, or contradicts the values.
    """
    if field == "loss":
        return _loss(column)
    if field not in COUNTS:
        return None
    quoted = quote(column)
    if _LOG10.search(normalised(column)):
        return Conversion(formula=f"10 ** {quoted}", reason=f"{column} is a logarithm to base 10 by its name")
    factor = scale(column)
    if factor is None:
        return None
    largest = max(values, default=0.0)
    if largest * factor > _LARGEST_COUNT:
        raise UsageError(
            f"Column '{column}' is in units of {factor:g} by its name, yet holds {largest:g}; "
            f'--map {field}="{quoted} * {factor:g}" if the name is right, --map {field}="{quoted} * 1" if it is not.'
        )
    return Conversion(formula=f"{quoted} * {factor:g}", reason=f"{column} is in units of {factor:g} by its name")


def _loss(column: str) -> Conversion | None:
    name, quoted = normalised(column), quote(column)
    if _PERPLEXITY.search(name):
        return Conversion(formula=f"log({quoted})", reason=f"{column} is a perplexity by its name")
    if _PER_TEXT.search(name):
        factor = "the bytes or characters per token" + ("" if "nat" in name or "loss_per" in name else " and by log(2)")
        raise UsageError(
            f"Column '{column}' is a loss per byte or character by its name, not in nats per token; multiply it by "
            f'{factor}, such as --map loss="{quoted} * 4.2 * log(2)".'
        )
    if _LOG10.search(name):
        raise UsageError(
            f"Column '{column}' has a base of 10 in its name; --map loss=\"{quoted} * {math.log(10):.6f}\" if it is a "
            f'loss in decimal digits, --map loss="10 ** {quoted}" if it is the logarithm of one.'
        )
    if _BITS.search(name):
        return Conversion(formula=f"{quoted} * log(2)", reason=f"{column} is in bits by its name")
    return None


def unscaled(columns: Iterable[str], numbers: Iterable[float]) -> tuple[str, float] | None:
    """A column of a formula that is in a unit by its name, and the unit; None where the formula has a power of ten."""
    if any(number > 0 and math.log10(number).is_integer() for number in numbers):
        return None
    return next(((column, factor) for column in columns if (factor := scale(column)) is not None), None)


def quote(column: str) -> str:
    """A column as a formula names it."""
    if re.fullmatch(r"[A-Za-z_][\w.]*", column):
        return column
    return f"`{column}`" if "`" not in column else f"'{column}'"
