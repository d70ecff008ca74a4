"""The bits that the name of a number format stands for: `W4A16`, `1.58bit`, `BitNet b1.58`, `Q4_K_M`, `E2M1`, `MXFP4`.

A name of llama.cpp such as Q4_K_M counts by the bits of its codes; what its scales add is no matter of training.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

TERNARY = 1.58
"""Bits of three values, log2 3, as papers round it."""
_HIGH = 16.0
"""From this width on a number is full precision."""
_FULL = re.compile(
    r"(?:full|high)?[-_ ]?(?:precision|fp)?|none|no(?:quantizer|[-_ ]?quant(?:ization)?)?|identity|false|unquantized"
    r"|baseline|dense|mixed|amp|half|single|float|(?:bf|fp|f|tf|float|bfloat|w|torch\.b?float)?(?:16|32|64)"
    r"(?:[-_ ]?(?:mixed|true|bits?))?|(?:bf16|fp16|bfloat16|float16)[-_ ]amp|w(?:16|32)[-_ ]?a(?:16|32)"
    r"|na|n/a|null|nan",
    re.IGNORECASE,
)
_PAIR = re.compile(
    r"(?<![a-z0-9])w(\d+(?:\.\d+)?)[-_ ]?a(\d+(?:\.\d+)?)(?:[-_ ]?(?:kv|c)\d+)?(?![a-z0-9])", re.IGNORECASE
)
_GGUF = re.compile(r"(?<![a-z0-9])i?q([1-8])_(?:[01k]|xxs|xs|s|m|nl)(?:_[a-z]+)?(?![a-z0-9])", re.IGNORECASE)
_FLOAT = re.compile(r"(?<![a-z0-9])e([1-5])m([0-3])(?:fn|fnuz)?(?![a-z0-9])", re.IGNORECASE)
_BITS = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)[-_ ]?bits?(?![a-z])", re.IGNORECASE)
_TYPED = re.compile(
    r"(?:FP|Fp|INT|Int|NF|(?<![A-Za-z])(?:mx|nv|MX|NV)?(?:fp|int|uint|nf|w|W|FP|INT|NF))(\d+(?:\.\d+)?)(?!\d|[aA]\d)"
)
_WORDS = (
    (re.compile(r"(?<![a-z])ternary|(?<![a-z0-9])tq[12]_0(?![a-z])|bitnet(?:[-_ ]b?1\.58)?"
                r"|(?<![a-z0-9])b?1\.58b?(?![0-9a-z])", re.IGNORECASE), TERNARY),
    (re.compile(r"(?<![a-z])binar(?:y|ized)(?![a-z])|onebit|one[-_ ]bit", re.IGNORECASE), 1.0),
)  # fmt: skip


_HINT = re.compile(r"bit|int|fp|nf|[wqm]\d|tern|binar|1\.58", re.IGNORECASE)
"""Something of this every name of a low-bit format has."""


class Widths(NamedTuple):
    """Bits per weight and per activation; None is full precision, or for activations not said."""

    weights: float | None
    activations: float | None = None


def is_full(text: str) -> bool:
    """Whether a text names full precision, or no format at all."""
    return _FULL.fullmatch(text.strip()) is not None


@lru_cache(maxsize=4096)
def widths(text: str) -> Widths | None:
    """What a text says of bits, None where it names no format, or several that differ.

    >>> widths("W4A8"), widths("bf16"), widths("often")
    (Widths(weights=4.0, activations=8.0), Widths(weights=None, activations=None), None)
    """
    if is_full(text):
        return Widths(None)
    if not _HINT.search(text):
        return None
    pairs = {(float(w), float(a)) for w, a in _PAIR.findall(text)}
    if pairs:
        (weights, activations), *rest = pairs
        return None if rest else Widths(_low(weights), _low(activations))
    found = {float(bits) for pattern in (_GGUF, _BITS, _TYPED) for bits in pattern.findall(text)}
    found |= {1.0 + float(e) + float(m) for e, m in _FLOAT.findall(text)}
    if not found & {TERNARY, 1.0, 2.0}:
        found |= {bits for pattern, bits in _WORDS if pattern.search(text)}
    # `int4 from bf16` names the format that was left too.
    low = {bits for bits in found if bits < _HIGH}
    if not found or len(low) > 1:
        return None
    return Widths(low.pop() if low else None)


def names_low_bits(text: str) -> bool:
    """Whether a text names a format of fewer than 16 bits."""
    found = widths(text)
    return found is not None and found.weights is not None and 0 < found.weights < _HIGH


@lru_cache(maxsize=4096)
def is_low_format(text: str) -> bool:
    """Whether a text is nothing but the name of a low-bit format."""
    if not names_low_bits(text):
        return False
    whole = text.strip()
    patterns = (_PAIR, _GGUF, _FLOAT, _BITS, _TYPED, *(pattern for pattern, _ in _WORDS))
    return any(pattern.fullmatch(whole) for pattern in patterns)


def _low(bits: float) -> float | None:
    return None if bits >= _HIGH else bits
