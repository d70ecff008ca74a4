"""The quantizers by name, what each allows, where it comes from and how firm that is. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qatplan.errors import UsageError

if TYPE_CHECKING:
    from qatplan.quant.quantizer import Quantizer


@dataclass(frozen=True, kw_only=True)
class QuantizerEntry:
    """What a user needs to know before naming a quantizer in a sweep."""

    name: str
    bits: tuple[float, ...]
    granularity: tuple[str, ...]
    symmetric: bool
    learnable: bool
    formula: str
    source: str
    firmness: str
    """paper, code, derived or open: how the formula reached us."""


ENTRIES = (
    QuantizerEntry(
        name="paretoq",
        bits=(1, 1.58, 2, 3, 4, 5, 6, 7, 8),
        granularity=("channel", "group"),
        symmetric=True,
        learnable=True,
        formula="1 bit: a sign(w); 1.58 bits: {0, +-2/3} a; 2 bits: {+-1/4, +-3/4} a; else LSQ with s = max|w| / p",
        source="Liu et al., ParetoQ, arXiv 2502.02631",
        firmness="code",
    ),
    QuantizerEntry(
        name="lsq",
        bits=(2, 3, 4, 5, 6, 7, 8),
        granularity=("channel", "group"),
        symmetric=True,
        learnable=True,
        formula="s clamp(round(w / s), -2^(B-1), 2^(B-1) - 1), s = 2 mean|w| / sqrt(p)",
        source="Esser et al., LSQ, arXiv 1902.08153",
        firmness="code",
    ),
)


def entry(name: str) -> QuantizerEntry:
    """The entry called `name`; UsageError lists the names there are."""
    for candidate in ENTRIES:
        if candidate.name == name:
            return candidate
    raise UsageError(f"quantizer {name!r} is not one of {', '.join(e.name for e in ENTRIES)}.")


def check_bits(name: str, bits: float) -> None:
    """Raise UsageError unless quantizer `name` works at `bits`."""
    allowed = entry(name).bits
    if bits not in allowed:
        raise UsageError(f"bits {bits:g} is not one of {', '.join(f'{b:g}' for b in allowed)}, which {name} allows.")


def create(name: str, bits: float) -> Quantizer:
    """The quantizer `name` at `bits`; UsageError if there is no such pair."""
    check_bits(name, bits)
    if name == "paretoq":
        from qatplan.quant.paretoq import paretoq

        return paretoq(bits)
    from qatplan.quant.lsq import Lsq

    return Lsq(bits, start="mean")
