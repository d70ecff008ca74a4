"""Chen et al. 2025: QAT from scratch, with a quantization error that grows with tokens and group size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from qatplan.errors import UsageError
from qatplan.laws.bitwise import BitwiseLaw, widths_of
from qatplan.laws.chinchilla import OverChinchilla, base_terms
from qatplan.laws.inputs import Inputs
from qatplan.laws.law import Term, amplitude, exponent, term_on

Precision = Literal["W4A4", "W4A16", "W16A4"]

PUBLISHED: Mapping[str, tuple[float, float, float, float]] = {
    "W4A4": (0.1582, 0.2186, 0.0745, 0.7779),
    "W4A16": (0.2522, 0.3589, 0.1610, 0.3533),
    "W16A4": (0.1004, 0.1816, 0.0331, 0.9812),
}
"""(k, gN, gD, gG) of arXiv 2505.14302, for raw N (74M-595M) and D (10-100B tokens)."""


@dataclass(frozen=True, kw_only=True)
class Chen2025(OverChinchilla, BitwiseLaw):
    """L = E + A/N^alpha + C/D^beta + k D^gD (log2 G)^gG / N^gN, with own k, gN, gD, gG for each bit width.

    Without groups (one step per output channel) G has no value; a law fitted on such rows has no gG, and its k holds
    whatever that factor is worth. Does not see how the tokens are split between the phases.
    """

    k: tuple[float, ...] = amplitude("k", "scale of the quantization error")
    # The paper's gN and gD are positive; a sweep in which QAT recovers with tokens needs gD below 0, so it may be.
    gN: tuple[float, ...] = exponent(
        "γN", "exponent of model size in the quantization error", (0.0, 0.8), lower=-1.5, of="n"
    )
    gD: tuple[float, ...] = exponent(
        "γD", "growth of the quantization error with tokens", (-0.6, 0.4), lower=-3.0, of="d_total"
    )
    gG: tuple[float, ...] = exponent(
        "γG", "growth of the quantization error with log2 of the group size", (0.0, 1.5), lower=-1.0, of="group_size"
    )

    name: ClassVar[str] = "chen2025"
    title: ClassVar[str] = "QAT from scratch with group size"
    formula: ClassVar[str] = "L = E + A/N^alpha + C/D^beta + k*D^gD*(log2 G)^gG/N^gN, k and g per bit width"
    source: ClassVar[str] = "Chen et al. 2025, arXiv 2505.14302"
    evidence: ClassVar[str] = "paper"
    domain: ClassVar[str] = "full precision, and QAT at a fitted bit width; group size known on all or on no row"

    @staticmethod
    def published(precision: Precision = "W4A16") -> Chen2025:
        """The published constants for one of the three precisions (bits are those of what is quantized)."""
        if precision not in PUBLISHED:
            raise UsageError(f"precision is {precision!r}; allowed are {', '.join(PUBLISHED)}")
        k, g_n, g_d, g_g = PUBLISHED[precision]
        return Chen2025(
            E=1.9279, A=237.7042, alpha=0.3022, C=596.2490, beta=0.3022,
            bit_widths=(4.0,), k=(k,), gN=(g_n,), gD=(g_d,), gG=(g_g,),
        )  # fmt: skip

    @classmethod
    def for_inputs(cls, x: Inputs) -> Self:
        """One set per bit width that occurs; with gG if any quantized point has a group size."""
        grouped = bool(np.any(~np.isnan(x.group_size[x.quantized])))
        return cls.of_widths(widths_of(x), ["k", "gN", "gD", "gG"] if grouped else ["k", "gN", "gD"])

    def every_term(self, x: Inputs) -> tuple[Term, ...]:
        """The Chinchilla terms and one error term per bit width; NaN for an unknown width or group size."""
        with np.errstate(divide="ignore", invalid="ignore"):
            log_group = np.log(np.log2(x.group_size))
        known = self.known_widths(x)
        terms = [*base_terms(x)]
        for b in self.bit_widths:
            rows = (x.bits == b) | np.isnan(known)
            columns = {f"gN_{b:g}": -np.log(x.n) + known, f"gD_{b:g}": np.log(x.d_total)}
            if self.gG:
                columns[f"gG_{b:g}"] = log_group
            terms.append(term_on(rows, f"quantization error {b:g}", f"k_{b:g}", **columns))
        return tuple(terms)

    def refusals(self, x: Inputs) -> list[tuple[NDArray[np.bool_], str]]:
        """Points that the law does not describe."""
        made = super().refusals(x)
        if self.gG:
            ungrouped = x.quantized & ~(x.group_size >= 2)
            made.append((ungrouped, "no group size of at least 2: the law's (log2 G)^gG needs one"))
        return made
