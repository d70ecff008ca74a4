"""The optimum surface: the best QAT fraction as a smooth function of bit width and tokens, from measured minima."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from qatplan.laws.inputs import Inputs
from qatplan.laws.law import Law, Term, exponent
from qatplan.laws.nonlinear import Logistic

REFERENCE_BITS, REFERENCE_TOKENS = 3.0, 2e6
"""Where the surface's level is meant."""


@dataclass(frozen=True, kw_only=True)
class FractionSurface(Law):
    """ln(f / (1 - f)) = c_0 + c_B ln(B/3) + c_D ln(D/2M): a law of our own, linear in log-odds.

    Where f = exp(-a / ln S) makes the optimum hang on tokens per parameter byte alone, this lets bits and tokens move
    it by as much as the measured minima say. Model size is left out: in the shipped sweep its slope is -0.1 +- 0.1, and
    with it larger sizes are predicted worse. Beyond 1 to 6 bits, and far from the tokens that it was fitted on, it
    is a straight line and no more.
    """

    c_0: float = exponent(
        "c_0", "log-odds of the best fraction at 3 bits and 2M tokens", (-4.0, 2.0), of="", lower=-20.0, upper=20.0
    )
    c_B: float = exponent(
        "c_B", "rise of the log-odds with the log of the bit width", (-4.0, 0.0), of="bits", lower=-20.0, upper=20.0
    )
    c_D: float = exponent(
        "c_D", "rise of the log-odds with the log of the tokens", (0.0, 1.0), of="d_total", lower=-5.0, upper=5.0
    )

    name: ClassVar[str] = "fraction-surface"
    title: ClassVar[str] = "Optimal QAT fraction by bits and tokens"
    formula: ClassVar[str] = "ln(f/(1-f)) = c_0 + c_B*ln(bits/3) + c_D*ln(D_total/2e6)"
    source: ClassVar[str] = "qatplan's own; minima at an end of a measured curve count as bounds"
    evidence: ClassVar[str] = "derived"
    domain: ClassVar[str] = "quantized, 1 to 6 bits"
    quantity: ClassVar[Literal["loss", "fraction"]] = "fraction"

    def every_term(self, x: Inputs) -> tuple[Term, ...]:
        """The single term 1 / (1 + exp(-log-odds))."""
        known = np.where(x.quantized, x.bits, REFERENCE_BITS)
        columns = np.stack(
            [np.ones(len(x)), np.log(known / REFERENCE_BITS), np.log(x.d_total / REFERENCE_TOKENS)], axis=1
        )
        surface = Logistic(exponent=None, rates=("c_0", "c_B", "c_D"), columns=columns)
        return (Term(name="fraction", amplitude=None, columns={}, rows=x.quantized.copy(), nonlinear=surface),)

    def refusals(self, x: Inputs) -> list[tuple[NDArray[np.bool_], str]]:
        """Points for which no fraction is defined."""
        why = "{:g} bits: minima were measured at 1 to 6 bits, and wider ones have none to speak of"
        foreign = np.unique(x.bits[(x.bits < 1) | (x.bits > 6)])
        return [(~x.quantized, "no bit width: a QAT fraction needs one")] + [
            (x.bits == b, why.format(b)) for b in foreign
        ]
