"""The bluntest rival of every QAT law: an own Chinchilla law for each bit width, nothing shared."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from qatplan.laws.bitwise import FULL_PRECISION, BitwiseLaw, suffix, widths_of
from qatplan.laws.chinchilla import Chinchilla, OverChinchilla
from qatplan.laws.inputs import Inputs
from qatplan.laws.law import Term

_BASE = {f.name: f.metadata for f in fields(OverChinchilla)}


@dataclass(frozen=True, kw_only=True)
class ChinchillaPerBits(BitwiseLaw):
    """L = E_b + A_b/N^alpha_b + C_b/D^beta_b, b the bit width or `fp`."""

    E: tuple[float, ...] = field(metadata=_BASE["E"])
    A: tuple[float, ...] = field(metadata=_BASE["A"])
    alpha: tuple[float, ...] = field(metadata=_BASE["alpha"])
    C: tuple[float, ...] = field(metadata=_BASE["C"])
    beta: tuple[float, ...] = field(metadata=_BASE["beta"])

    name: ClassVar[str] = "chinchilla-per-bits"
    title: ClassVar[str] = "One Chinchilla law per bit width"
    formula: ClassVar[str] = "L = E_b + A_b/N^alpha_b + C_b/D_total^beta_b for each bit width b"
    source: ClassVar[str] = "a baseline of ours over arXiv 2203.15556"
    evidence: ClassVar[str] = "derived"
    domain: ClassVar[str] = "full precision, and QAT at a fitted bit width; does not see how the tokens are split"

    @staticmethod
    def published() -> ChinchillaPerBits:
        """Full precision only, from arXiv 2404.10102; nobody published the others."""
        known = Chinchilla.published().params()
        return ChinchillaPerBits.from_params({f"{name}_fp": value for name, value in known.items()})

    @classmethod
    def for_inputs(cls, x: Inputs) -> Self:
        """One law per bit width that occurs, and one for full precision if that occurs."""
        widths = widths_of(x) + ((FULL_PRECISION,) if not np.all(x.quantized) else ())
        return cls.of_widths(widths, list(_BASE))

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
        return [*super().refusals(x), (full, "full precision: this law was fitted on quantized runs only")]
