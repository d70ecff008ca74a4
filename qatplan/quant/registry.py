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

WHOLE: tuple[float, ...] = (2, 3, 4, 5, 6, 7, 8)


@dataclass(frozen=True, kw_only=True)
class QuantizerEntry:
    """What a user needs to know before naming a quantizer in a sweep."""

    name: str
    factory: str
    """`module:function` that makes it from a bit width; imported when it is first asked for."""
    bits: tuple[float, ...] = WHOLE
    symmetric: bool = True
    learnable: bool = True
    live: bool = False
    """Whether its range follows the live values, as activations quantized per token need it."""
    formula: str
    source: str
    evidence: str
    """paper, code, derived or open: how the formula reached us."""
    granularity: tuple[str, ...] = ("tensor", "channel", "group")
    """What may share a range in a weight."""
    numerics: int = 1
    """Version of what it computes: raised when a change alters any digit, so that runs with it get other names."""
    rotates: bool = False
    """Whether its grid lies in Hadamard space; its source gives each token of activations a range of its own."""

    @property
    def activations(self) -> tuple[ActivationGranularity, ...]:
        """What may share a range of activations."""
        if not self.live:
            return ("tensor",)
        return ("token",) if self.rotates else ("tensor", "token")


PARETOQ, LSQ = "Liu et al., ParetoQ, arXiv 2502.02631", "Esser et al., LSQ, arXiv 1902.08153"
ASYMMETRIC, CONTINUOUS = "You et al., arXiv 2404.16898", "Li et al., arXiv 2410.10849"

ENTRIES = (
    QuantizerEntry(
        name="paretoq", factory="qatplan.quant.paretoq:paretoq", source=PARETOQ, evidence="code",
        bits=(1, 1.58, *WHOLE),
        formula="1 bit: a sign(w); 1.58 bits: {0, +-2/3} a; 2 bits: {+-1/4, +-3/4} a; else LSQ with s = max|w| / p",
    ),
    QuantizerEntry(
        name="lsq", factory="qatplan.quant.lsq:lsq", source=LSQ, evidence="code",
        formula="s clamp(round(w / s), -2^(B-1), 2^(B-1) - 1), s = 2 mean|w| / sqrt(p)",
    ),
    QuantizerEntry(
        name="rtn", factory="qatplan.quant.rtn:Rtn", source="round to nearest, the common baseline", evidence="derived",
        learnable=False, live=True,
        formula="s round(x / s), s = max|x| / p of the live values; straight-through gradient",
    ),
    QuantizerEntry(
        name="scale-offset", factory="qatplan.quant.asymmetric:ScaleOffset", source=ASYMMETRIC, evidence="paper",
        symmetric=False, formula="s (clamp(round(x / s) - z, 0, k) + z), k = 2^B - 1; s and z learned",
    ),
    QuantizerEntry(
        name="min-max", factory="qatplan.quant.asymmetric:MinMax", source=ASYMMETRIC, evidence="paper, derived",
        symmetric=False,
        formula="as scale-offset with s = (max - min) / k, z = round(min / s); min and max learned",
    ),
    QuantizerEntry(
        name="beta-gamma", factory="qatplan.quant.asymmetric:BetaGamma", source=ASYMMETRIC, evidence="paper, derived",
        symmetric=False, live=True,
        formula="as min-max with min = beta min(x), max = gamma max(x) of the live values; learned from 1",
    ),
    QuantizerEntry(
        name="beta-gamma-sigmoid", factory="qatplan.quant.asymmetric:beta_gamma_sigmoid", source=ASYMMETRIC,
        evidence="paper, derived", symmetric=False, live=True,
        formula="as beta-gamma with sigma(beta) and sigma(gamma), learned from 4",
    ),
    QuantizerEntry(
        name="lsq-softclamp", factory="qatplan.quant.continuous:lsq_soft_clamp", source=CONTINUOUS,
        evidence="paper, open", numerics=2,
        formula="lsq with s round(SoftClamp(w / s)); SoftClamp(x, a, b) = x g(x-a) g(b-x) + a g(a-x) + b g(x-b)",
    ),
    QuantizerEntry(
        name="lsq-sigmoid", factory="qatplan.quant.continuous:lsq_sigmoid", source=CONTINUOUS, evidence="open",
        numerics=2,
        formula="lsq with the slope of floor(x) + sigma(T (x - floor(x) - 1/2)), over its mean, for rounding's",
    ),
    QuantizerEntry(
        name="lsq-softclamp-sigmoid", factory="qatplan.quant.continuous:lsq_soft_clamp_sigmoid", source=CONTINUOUS,
        evidence="open", numerics=2, formula="lsq-softclamp and lsq-sigmoid together",
    ),
    QuantizerEntry(
        name="quest", factory="qatplan.quant.quest:Quest", source="Panferov et al., QuEST, arXiv 2502.05003",
        evidence="code, derived", bits=(1, 1.58, *WHOLE), learnable=False, live=True, rotates=True, numerics=4,
        formula="Hadamard blocks, then the evenly spaced grid that is best for a Gaussian of the row's mean square",
    ),
)  # fmt: skip


def entry(name: str) -> QuantizerEntry:
    """The entry called `name`; UsageError lists the names there are."""
    for candidate in ENTRIES:
        if candidate.name == name:
            return candidate
    raise UsageError(f"quantizer {name!r} is not one of {', '.join(e.name for e in ENTRIES)}.")


def create(name: str, bits: float) -> Quantizer:
    """The quantizer `name` at `bits`; UsageError if there is no such pair."""
    found = entry(name)
    if bits not in found.bits:
        raise UsageError(f"bits {bits:g} is not one of {', '.join(f'{b:g}' for b in found.bits)}, which {name} allows.")
    module, function = found.factory.split(":")
    quantizer: Quantizer = getattr(importlib.import_module(module), function)(bits)
    return quantizer
