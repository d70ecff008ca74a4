"""Kumar et al. 2024, scaling laws for precision: effective parameters in training, and a penalty for rounding after."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from qatplan.laws.bitwise import ROUNDED
from qatplan.laws.chinchilla import OverChinchilla, base_terms
from qatplan.laws.inputs import Inputs
from qatplan.laws.law import Term, amplitude, exponent, term_on
from qatplan.laws.nonlinear import Saturation

_over_bits = partial(exponent, of="bits", lower=0.05, upper=50.0, unit="bits", coordinate="inverse")


@dataclass(frozen=True, kw_only=True)
class Precision(OverChinchilla):
    """L = E + A/N_eff^alpha + C/D^beta + delta; arXiv 2411.04330.

    N_eff = N (1 - exp(-bits/gamma_w)) for weights trained quantized (D_qat > 0), N otherwise;
    delta = C_T D^gD / N^gN exp(-bits/gamma_post) for weights rounded after training (D_qat = 0 with bits).
    Does not see how the tokens are split beyond that distinction.
    """

    gamma_w: float = _over_bits("γ_w", "bits over which quantized weights become worth full-precision ones", (0.5, 6.0))
    C_T: float = amplitude("C_T", "scale of the penalty of rounding after training")
    gD: float = exponent("γ_D", "growth of the rounding penalty with tokens", (0.0, 1.0), lower=-1.0, of="d_total")
    gN: float = exponent("γ_N", "fall of the rounding penalty with model size", (0.0, 1.0), lower=-1.0, of="n")
    gamma_post: float = _over_bits("γ_post", "bits over which the rounding penalty falls by a factor e", (0.3, 4.0))

    name: ClassVar[str] = "precision"
    title: ClassVar[str] = "Scaling laws for precision"
    formula: ClassVar[str] = (
        "L = E + A/(N*(1 - exp(-bits/gamma_w)))^alpha + C/D^beta"
        " [+ C_T*D^gD/N^gN*exp(-bits/gamma_post) when rounded after training]"
    )
    source: ClassVar[str] = "Kumar et al. 2024, arXiv 2411.04330 (N non-embedding, 30M-220M)"
    evidence: ClassVar[str] = "paper"
    domain: ClassVar[str] = "full precision, QAT, and rounding after training"
    takes_rounded: ClassVar[bool] = True

    @staticmethod
    def published() -> Precision:
        """The published constants of arXiv 2411.04330; N there counts non-embedding parameters."""
        return Precision(
            E=2.7648, A=4299.0, alpha=0.4965, C=18060.0, beta=0.4965, gamma_w=2.6745,
            C_T=0.0598, gD=0.5068, gN=0.3439, gamma_post=0.5907,
        )  # fmt: skip

    def every_term(self, x: Inputs) -> tuple[Term, ...]:
        """The Chinchilla terms with N_eff, and the rounding penalty."""
        trained = x.quantized & (x.d_qat > 0)
        rounded = x.quantized & (x.d_qat == 0)
        # Infinite bits make the saturating factor 1: full precision and weights that were trained in it.
        saturation = Saturation(exponent="alpha", rates=("gamma_w",), bits=np.where(trained, x.bits, np.inf))
        level, size, data = base_terms(x)
        columns = {"gD": np.log(x.d_total), "gN": -np.log(x.n), "gamma_post": -x.bits}
        penalty = term_on(rounded, "rounding penalty", "C_T", **columns)
        return level, dataclasses.replace(size, nonlinear=saturation), data, penalty

    def refusals(self, x: Inputs) -> list[tuple[NDArray[np.bool_], str]]:
        """Points that the law does not describe."""
        rounded = x.quantized & (x.d_qat == 0) & (self.C_T == 0)
        return [(rounded, ROUNDED.format("the law was fitted without such rows"))]

    def derived(self) -> dict[str, float]:
        """Effective share of parameters at common bit widths, and the compute-optimal exponents."""
        shares = {f"effective_share_{b}_bits": float(-np.expm1(-b / self.gamma_w)) for b in (1, 2, 3, 4, 6, 8)}
        return super().derived() | shares
