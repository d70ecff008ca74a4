"""Effective parameters: quantized weights count for a fraction eff(bits) of as many full-precision ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qatplan.laws.bitwise import BitwiseLaw
from qatplan.laws.chinchilla import Chinchilla, OverChinchilla, base_terms
from qatplan.laws.inputs import Inputs
from qatplan.laws.law import Term, exponent

PUBLISHED_EFF: Mapping[float, float] = {1.0: 0.138, 2.0: 0.414, 3.0: 0.653, 4.0: 0.840}
"""Weight-only factors of QuEST, trained quantized from the start: arXiv 2502.05003 and its public code."""


@dataclass(frozen=True, kw_only=True)
class Effective(OverChinchilla, BitwiseLaw):
    """L = E + A/(N eff(bits))^alpha + C/D^beta with one eff in (0, 1] per bit width, 1 in full precision."""

    eff: tuple[float, ...] = exponent(
        "eff", "share of a full-precision parameter that one quantized parameter is worth", (0.1, 0.95), of="bits",
        upper=1.0, coordinate="factor", exponent="alpha",
    )  # fmt: skip

    name: ClassVar[str] = "effective"
    title: ClassVar[str] = "Effective parameters"
    formula: ClassVar[str] = "L = E + A/(N*eff(bits))^alpha + C/D_total^beta"
    source: ClassVar[str] = "Panferov et al. 2025 (QuEST), arXiv 2502.05003, and its public code"
    evidence: ClassVar[str] = "code"
    domain: ClassVar[str] = "full precision, and QAT at a fitted bit width; does not see how the tokens are split"

    @staticmethod
    def published() -> Effective:
        """Published factors over the corrected published Chinchilla law.

        The pairing is ours: the source's own E, A, C belong to its corpus and are not given to us.
        """
        base = Chinchilla.published().params()
        return Effective(**base, bit_widths=tuple(PUBLISHED_EFF), eff=tuple(PUBLISHED_EFF.values()))

    def every_term(self, x: Inputs) -> tuple[Term, ...]:
        """The Chinchilla terms, the size term raised by eff^-alpha; NaN for an unknown bit width."""
        level, size, data = base_terms(x)
        factors = {f"eff_{b:g}": (x.bits == b).astype(np.float64) for b in self.bit_widths}
        columns = {"alpha": size.columns["alpha"] + self.known_widths(x), **factors}
        return level, dataclasses.replace(size, columns=columns), data
