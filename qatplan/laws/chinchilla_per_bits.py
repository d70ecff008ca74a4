"""The bluntest rival of every QAT law: an own Chinchilla law for each bit width, nothing shared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from qatplan.laws.bitwise import FULL_PRECISION, BitwiseLaw, suffix, widths_of
from qatplan.laws.chinchilla import PARAMETERS as BASE
from qatplan.laws.inputs import Inputs
from qatplan.laws.law import Parameter, Term


@dataclass(frozen=True, kw_only=True)
class ChinchillaPerBits(BitwiseLaw):
    """L = E_b + A_b/N^alpha_b + C_b/D^beta_b, b the bit width or `fp`."""

    bit_widths: tuple[float, ...]
    E: tuple[float, ...]
    A: tuple[float, ...]
    alpha: tuple[float, ...]
    C: tuple[float, ...]
    beta: tuple[float, ...]

    name: ClassVar[str] = "chinchilla-per-bits"
    title: ClassVar[str] = "One Chinchilla law per bit width"
    formula: ClassVar[str] = "L = E_b + A_b/N^alpha_b + C_b/D_total^beta_b for each bit width b"
    source: ClassVar[str] = "a baseline of ours over arXiv 2203.15556"
    evidence: ClassVar[str] = "derived"
    domain: ClassVar[str] = "full precision, and QAT at a fitted bit width; does not see how the tokens are split"
    SHARED: ClassVar[tuple[Parameter, ...]] = ()
    EACH: ClassVar[tuple[Parameter, ...]] = BASE

    @staticmethod
    def published() -> ChinchillaPerBits:
        """Full precision only, from arXiv 2404.10102; nobody published the others."""
        return ChinchillaPerBits(
            bit_widths=(FULL_PRECISION,), E=(1.8172,), A=(482.01,), alpha=(0.3478,), C=(2085.43,), beta=(0.3658,)
        )

    @classmethod
    def for_inputs(cls, x: Inputs) -> Self:
        """One law per bit width that occurs, and one for full precision if that occurs."""
        widths = widths_of(x) + ((FULL_PRECISION,) if not np.all(x.quantized) else ())
        return cls.of_widths(widths, [p.name for p in BASE])

    def every_term(self, x: Inputs) -> tuple[Term, ...]:
        """Three terms per bit width, each present at its own points."""
        width = np.where(x.quantized, x.bits, FULL_PRECISION)
        known = self.known_widths(x)
        if FULL_PRECISION not in self.bit_widths:
            known = np.where(x.quantized, known, np.nan)
        log_n, log_d = -np.log(x.n) + known, -np.log(x.d_total)
        terms: list[Term] = []
        for b in self.bit_widths:
            # A point of unknown width belongs to every term, whose NaN makes the prediction NaN instead of 0.
            rows, end = (width == b) | np.isnan(known), suffix(b)
            terms += [
                Term(name=f"irreducible {end}", amplitude=f"E_{end}", columns={}, rows=rows),
                Term(name=f"model size {end}", amplitude=f"A_{end}", columns={f"alpha_{end}": log_n}, rows=rows),
                Term(name=f"data {end}", amplitude=f"C_{end}", columns={f"beta_{end}": log_d}, rows=rows),
            ]
        return tuple(terms)

    def refusals(self, x: Inputs) -> list[tuple[NDArray[np.bool_], str]]:
        """Points that the law does not describe."""
        full = ~x.quantized & (FULL_PRECISION not in self.bit_widths)
        return [
            *super().refusals(x),
            (full, "full precision: this law was fitted on quantized runs only"),
            (
                x.quantized & (x.d_qat == 0),
                "D_qat = 0 with a bit width (rounded after training): another method than QAT",
            ),
        ]
