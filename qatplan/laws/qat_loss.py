"""The unified loss law of compute-optimal QAT: how the loss depends on size, tokens, bits and the FP/QAT split."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from qatplan.laws.bitwise import ROUNDED
from qatplan.laws.chinchilla import OverChinchilla, base_terms
from qatplan.laws.inputs import Inputs
from qatplan.laws.law import Term, amplitude, exponent, term_on

_per_bit = partial(exponent, of="bits", upper=8.0, unit="1/bit")
_LOG_2 = float(np.log(2.0))


@dataclass(frozen=True, kw_only=True)
class QatLoss(OverChinchilla):
    """The loss law of arXiv 2509.22935; its coefficients are not public, so it is always fitted on a sweep.

    With S = D / (N * bits / 8) tokens per parameter byte,

        L = E + A/N^alpha + C/D_total^beta
          + theta * 2^(-kappa bits)
          + phi * 2^(-chi bits) / (N^psi * S_qat^omega)
          + lam * 2^(-mu bits) / (N^nu * S_fp^xi * S_qat^rho)

    A full-precision point sees the first line only. An amplitude of 0 takes its term out of the law.

    The law is singular at both ends of the split. At D_qat = 0 (a rounded, never QAT-trained model) the penalty is
    infinite for omega > 0; at D_fp = 0 (QAT from scratch) the interaction is infinite for xi > 0. `predict` returns
    that limit, inf, and `outside` says why; where the exponent is 0, or the term is taken out, the point is inside.
    """

    # S counts tokens per parameter *byte*, so it already holds N and the bits: what psi, nu and mu add to that may have
    # either sign, and their lower bounds are negative. An exponent of tokens below 0 would mean that training hurts.
    theta: float = amplitude("θ", "scale of the quantization error that no training removes")
    kappa: float = _per_bit("κ", "halvings of the irreducible quantization error per bit", (0.3, 3.0), lower=0.0)
    phi: float = amplitude("φ", "scale of the penalty of short QAT")
    chi: float = _per_bit("χ", "halvings of the QAT penalty per bit", (0.0, 3.0), lower=-1.0)
    psi: float = exponent("ψ", "exponent of model size in the QAT penalty", (-0.2, 0.8), lower=-1.5, of="n")
    omega: float = exponent("ω", "exponent of QAT tokens in the QAT penalty", (0.1, 1.2), upper=4.0, of="d_qat")
    lam: float = amplitude("λ", "scale of the interaction of both phases")
    mu: float = _per_bit("μ", "halvings of the interaction per bit", (-0.5, 2.5), lower=-2.0)
    nu: float = exponent("ν", "exponent of model size in the interaction", (-0.2, 0.8), lower=-1.5, of="n")
    xi: float = exponent("ξ", "exponent of full-precision tokens in the interaction", (0.1, 1.2), upper=4.0, of="d_fp")
    rho: float = exponent("ρ", "exponent of QAT tokens in the interaction", (0.0, 0.8), upper=4.0, of="d_qat")

    name: ClassVar[str] = "qat-loss"
    title: ClassVar[str] = "Compute-optimal QAT, unified loss law"
    formula: ClassVar[str] = (
        "L = E + A/N^alpha + C/D_total^beta + theta*2^(-kappa*bits) + phi*2^(-chi*bits)/(N^psi*S_qat^omega)"
        " + lam*2^(-mu*bits)/(N^nu*S_fp^xi*S_qat^rho),  S = D/(N*bits/8)"
    )
    source: ClassVar[str] = "Dremov et al. 2026, arXiv 2509.22935; coefficients not public, fit your own sweep"
    evidence: ClassVar[str] = "paper"
    domain: ClassVar[str] = (
        "full precision; quantized with D_qat > 0 and D_fp > 0 (D_fp = 0 only without the interaction term)"
    )
    sees_fraction: ClassVar[bool] = True

    def every_term(self, x: Inputs) -> tuple[Term, ...]:
        """Six terms, fewer where an amplitude is 0."""
        q = x.quantized
        with np.errstate(divide="ignore"):
            n, fp, qat = -np.log(x.n), -np.log(x.s_fp), -np.log(x.s_qat)
        bits = -_LOG_2 * x.bits
        return (
            *base_terms(x),
            term_on(q, "irreducible quantization", "theta", kappa=bits),
            term_on(q, "QAT penalty", "phi", chi=bits, psi=n, omega=qat),
            term_on(q, "interaction", "lam", mu=bits, nu=n, xi=fp, rho=qat),
        )

    def refusals(self, x: Inputs) -> list[tuple[NDArray[np.bool_], str]]:
        """Points where the law has no finite value."""
        no_qat = (self.phi != 0 and self.omega != 0) or (self.lam != 0 and self.rho != 0)
        no_fp = self.lam != 0 and self.xi != 0
        rounded = ROUNDED.format("the QAT penalty is infinite there")
        scratch = "D_fp = 0 (QAT from scratch): the interaction term is infinite there (with lam = 0 such rows count)"
        return [(x.quantized & (x.d_qat == 0) & no_qat, rounded), (x.quantized & (x.d_fp == 0) & no_fp, scratch)]
