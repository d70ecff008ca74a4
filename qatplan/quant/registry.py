"""The quantizers by name, what each allows, where it comes from and how firm that is. Imports no torch."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from qatplan.errors import UsageError

if TYPE_CHECKING:
    from qatplan.quant.quantizer import Quantizer


GroupSize = int | Literal["tensor"] | None
"""Inputs of a weight that share a range; None is one range per output channel, `tensor` one for the whole tensor."""
ActivationGranularity = Literal["tensor", "token"]
"""What shares a range of activations."""


@dataclass(frozen=True, kw_only=True)
class QuantizerEntry:
    """What a user needs to know before naming a quantizer in a sweep."""

    name: str
    factory: str
    """`module:function` that makes it from a bit width; imported when it is first asked for."""
    bits: tuple[float, ...]
    symmetric: bool
    learnable: bool
    live: bool
    """Whether its range follows the live values, as activations quantized per token need it."""
    formula: str
    source: str
    firmness: str
    """paper, code, derived or open: how the formula reached us."""
    granularity: tuple[str, ...] = ("tensor", "channel", "group")
    """What may share a range in a weight."""


ENTRIES = (
    QuantizerEntry(
        name="paretoq",
        factory="qatplan.quant.paretoq:paretoq",
        bits=(1, 1.58, 2, 3, 4, 5, 6, 7, 8),
        symmetric=True,
        learnable=True,
        live=False,
        formula="1 bit: a sign(w); 1.58 bits: {0, +-2/3} a; 2 bits: {+-1/4, +-3/4} a; else LSQ with s = max|w| / p",
        source="Liu et al., ParetoQ, arXiv 2502.02631",
        firmness="code",
    ),
    QuantizerEntry(
        name="lsq",
        factory="qatplan.quant.lsq:lsq",
        bits=(2, 3, 4, 5, 6, 7, 8),
        symmetric=True,
        learnable=True,
        live=False,
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
    module, function = entry(name).factory.split(":")
    quantizer: Quantizer = getattr(importlib.import_module(module), function)(bits)
    return quantizer
