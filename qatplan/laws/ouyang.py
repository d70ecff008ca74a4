"""Ouyang et al. 2024: the loss that rounding after training adds, from tokens, size and bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from qatplan.laws.chinchilla import Chinchilla, OverChinchilla, base_terms
from qatplan.laws.inputs import Inputs
from qatplan.laws.law import Term, amplitude, exponent, term_on


@dataclass(frozen=True, kw_only=True)
class Ouyang(OverChinchilla):
    """L = E + A/N^alpha + C/D^beta + k D^b / (N^a bits^g), the last for models rounded after training (D_qat = 0).

    The paper gives the added loss only (GPTQ on the Pythia models); the full-precision part is the reader's own.
    """

    k: float = amplitude("k", "scale of the added loss")
    b: float = exponent("b", "growth of the added loss with tokens", (0.0, 1.0), lower=-1.0, of="d_total")
    a: float = exponent("a", "fall of the added loss with model size", (0.0, 1.0), lower=-1.0, of="n")
    g: float = exponent("g", "fall of the added loss with bits", (1.0, 8.0), upper=12.0, of="bits")

    name: ClassVar[str] = "ouyang"
    title: ClassVar[str] = "Loss added by rounding after training"
    formula: ClassVar[str] = "L = E + A/N^alpha + C/D^beta + k*D^b/(N^a*bits^g)"
    source: ClassVar[str] = "Ouyang et al. 2024, arXiv 2411.17691 (the added loss; GPTQ on Pythia)"
    evidence: ClassVar[str] = "paper"
    domain: ClassVar[str] = "full precision, and quantized with D_qat = 0"

    @staticmethod
    def published(base: Chinchilla | None = None) -> Ouyang:
        """The published added loss on top of `base`; without one the law predicts the added loss alone."""
        values = {"E": 0.0, "A": 0.0, "alpha": 0.0, "C": 0.0, "beta": 0.0} if base is None else base.params()
        return Ouyang(**values, k=0.017, b=0.5251, a=0.2261, g=5.4967)

    def every_term(self, x: Inputs) -> tuple[Term, ...]:
        """The Chinchilla terms and the added loss."""
        rounded = x.quantized & (x.d_qat == 0)
        columns = {"b": np.log(x.d_total), "a": -np.log(x.n), "g": -np.log(x.bits)}
        return (*base_terms(x), term_on(rounded, "added by rounding", "k", **columns))

    def refusals(self, x: Inputs) -> list[tuple[NDArray[np.bool_], str]]:
        """Points that the law does not describe."""
        return [(x.quantized & (x.d_qat > 0), "D_qat > 0: the law describes rounding after training, not QAT")]
