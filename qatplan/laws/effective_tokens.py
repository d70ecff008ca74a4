"""Effective tokens: a token of the second phase is worth a share of one of the first, and recovery from rounding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np

from qatplan.laws.chinchilla import OverChinchilla, base_terms
from qatplan.laws.inputs import Floats, Inputs
from qatplan.laws.law import Term, amplitude, exponent, term_on
from qatplan.laws.nonlinear import Join, Saturating, TokenWorth

CONTROL = 16.0
"""Bits of a second phase in full precision, which has no floor and nothing to recover from."""
SQUARED_ERROR: dict[float, float] = {
    1: 0.36338, 1.58: 0.19017, 2: 0.11885, 3: 0.037440, 4: 0.011543, 5: 0.0034952, 6: 0.0010400, 7: 3.0433e-4,
    8: 8.7686e-5,
}  # fmt: skip
"""Of the best uniform grid of 2^bits levels for a standard normal weight (Max 1960, doi 10.1109/TIT.1960.1057548)."""
_CAP = 6.0
_TOKENS = 2e6
"""D at which eD says nothing."""
_EARLY = 0.05
"""Share of the tokens over which the restart's cost turns from proportional to logarithmic."""
_STEP = 4.0
"""Recovery counts tokens in this multiple of the parameters."""
_per_bit = partial(exponent, of="bits", unit="1/bit")


def log_squared_error(bits: Floats) -> Floats:
    """ln of `SQUARED_ERROR` relative to 3 bits, linear between widths; a quarter a bit beyond 8."""
    known = np.array(list(SQUARED_ERROR))
    values = np.log(np.array(list(SQUARED_ERROR.values())) / SQUARED_ERROR[3])
    result: Floats = np.interp(bits, known, values) - np.log(4.0) * np.maximum(bits - known[-1], 0.0)
    return result


@dataclass(frozen=True, kw_only=True)
class EffectiveTokens(OverChinchilla):
    """A law of our own, of losses against the fraction measured on small models.

    With f = D_qat/D, t = D_qat/(4N) and q the squared error of the quantizer relative to that at 3 bits,

        L = E + A/N^alpha + C/(D_fp + eta D_qat)^beta + R ln(1 + f/0.05)/D^delta
          + F (D/N)^gF / N^nF * (q (1 + s)/(1 + s q))^cF
          + r 2^(-c bits) (D/N)^g / (N^psi (t + d0)^omega)
        ln eta = e0 + e1 (min(bits, 6) - 3) + eD ln(D/2e6)

    R is what a second phase costs by starting anew; all terms are positive, so it cannot be a gain. The second line is
    what no training removes, the third the recovery from rounding. A full-precision point sees E, A and C alone with
    f = 0; a second phase in full precision (16 bits) sees the first line with eta at its cap. The law is finite at
    both ends of the split: at D_qat = 0 recovery is d0^-omega, the model as it was rounded, and at D_fp = 0 the tokens
    are worth eta D. Where eta > 1 the best fraction may be 1.
    """

    e0: float = exponent("e₀", "log of the worth of a QAT token at 3 bits", (-1.0, 0.3), of="d_qat", lower=-4, upper=3)
    e1: float = _per_bit("e₁", "growth of that log per bit, up to 6 bits", (0.0, 0.3), lower=-1.0, upper=1.5)
    eD: float = exponent("e_D", "growth of that log with ln D", (-0.1, 0.2), of="d_total", lower=-0.5, upper=1.0)
    R: float = amplitude("R", "scale of the cost of a second phase's start", "nats/token * tokens^delta")
    delta: float = exponent("δ", "fall of that cost with tokens", (-0.2, 1.0), of="d_total", lower=-1.0)
    F: float = amplitude("F", "scale of the loss from quantization that no training removes")
    gF: float = exponent("g_F", "growth of that loss with D/N", (-0.2, 0.8), of="d_total", lower=-1.0, upper=1.5)
    nF: float = exponent("n_F", "fall of that loss with model size", (-0.3, 0.4), of="n", lower=-1.5)
    cF: float = exponent("c_F", "exponent of the quantizer's squared error in it", (0.3, 1.5), of="bits", upper=4.0)
    s: float = exponent("s", "how soon that loss saturates; 0 for never", (0.0, 2.0), of="bits", upper=50.0)
    r: float = amplitude("r", "scale of the loss from which QAT recovers")
    c: float = _per_bit("c", "halvings of that loss per bit", (0.5, 2.5), lower=-1.0, upper=8.0)
    g: float = exponent("g", "growth of that loss with D/N", (-0.2, 0.8), of="d_total", lower=-1.5, upper=2.0)
    psi: float = exponent("ψ", "fall of that loss with model size", (-0.2, 0.5), of="n", lower=-2.0, upper=2.0)
    omega: float = exponent("ω", "exponent of QAT tokens in the recovery", (0.2, 1.0), of="d_qat", lower=0.01)
    log_d0: float = exponent(
        "ln d₀", "log of the QAT tokens per 4 N that rounding alone is worth", (-7.0, -2.0), of="d_qat", lower=-12.0,
        upper=2.0,
    )  # fmt: skip

    name: ClassVar[str] = "effective-tokens"
    title: ClassVar[str] = "Effective tokens"
    formula: ClassVar[str] = (
        "L = E + A/N^alpha + C/(D_fp + eta*D_qat)^beta + R*ln(1 + f/0.05)/D^delta"
        " + F*(D/N)^gF/N^nF*(q*(1+s)/(1+s*q))^cF + r*2^(-c*bits)*(D/N)^g/(N^psi*(D_qat/(4*N) + d0)^omega),"
        "  ln eta = e0 + e1*(min(bits,6) - 3) + eD*ln(D/2e6), q = squared error of the quantizer over that at 3 bits"
    )
    source: ClassVar[str] = "ours; fit your own sweep"
    evidence: ClassVar[str] = "derived"
    domain: ClassVar[str] = "full precision, QAT at any split, a second phase in full precision (16 bits), and rounding"
    sees_fraction: ClassVar[bool] = True
    takes_controls: ClassVar[bool] = True

    def every_term(self, x: Inputs) -> tuple[Term, ...]:
        """Six terms, fewer where an amplitude is 0."""
        trained = x.quantized & (x.d_qat > 0)
        q = x.quantized & (x.bits < CONTROL)
        bits = np.where(x.quantized, x.bits, 3.0)
        n, ratio, tokens = -np.log(x.n), np.log(x.d_total / x.n), x.d_qat / (_STEP * x.n)
        level, size, data = base_terms(x)
        steps = np.minimum(bits, _CAP) - 3.0
        worth = TokenWorth(
            exponent="beta", rates=("e0", "e1", "eD"), fraction=x.fraction,
            columns=np.stack([np.ones(len(x)), steps, np.log(x.d_total / _TOKENS)], axis=1),
        )  # fmt: skip
        error = log_squared_error(bits)
        restart = term_on(trained, "restart", "R", delta=-np.log(x.d_total))
        floor = term_on(q, "irreducible quantization", "F", gF=ratio, nF=n, cF=error)
        # Any reference serves, since the column of omega holds it too; near the tokens it keeps that column centred.
        near = tokens + _EARLY
        recovery = term_on(q, "recovery", "r", c=-np.log(2.0) * bits, g=ratio, psi=n, omega=-np.log(near))
        return (
            level,
            size,
            replace(data, nonlinear=worth),
            replace(restart, known=np.log(np.log1p(np.where(trained, x.fraction, 1.0) / _EARLY))),
            replace(floor, nonlinear=Saturating(exponent="cF", rates=("s",), q=np.exp(error))),
            replace(recovery, nonlinear=Join(exponent="omega", rates=("log_d0",), x=tokens, reference=near)),
        )

    def undetermined(self, x: Inputs) -> dict[str, str]:
        """Rates that need several bit widths, and eD, which only a second phase in full precision shows."""
        trained = x.quantized & (x.d_qat > 0)
        widths = len(np.unique(x.bits[x.quantized & (x.bits < CONTROL)]))
        budgets = len(np.unique(np.round(np.log(x.d_total[trained & (x.bits >= CONTROL)]), 1)))
        few: dict[str, str] = {}
        if not trained.any():
            few["e0"] = "no row has a second phase"
        if len(np.unique(np.minimum(x.bits[trained], _CAP))) < 2:
            few["e1"] = "second phases are of one bit width, or none"
        if budgets < 2:
            few["eD"] = "no second phases in full precision (16 bits) at two budgets tell the worth of tokens from D"
        if widths < 3:
            few["s"] = f"the rows are of {widths} bit widths, and a level that saturates needs 3"
        return few
