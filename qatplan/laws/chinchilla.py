"""The Chinchilla law, alone and as the full-precision part of every other loss law."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qatplan.laws.inputs import Inputs
from qatplan.laws.law import Law, Term, amplitude, exponent


def base_terms(x: Inputs) -> tuple[Term, ...]:
    """E + A/N^alpha + C/D_total^beta at the given points."""
    every = np.ones(len(x), dtype=np.bool_)
    return (
        Term(name="irreducible", amplitude="E", columns={}, rows=every),
        Term(name="model size", amplitude="A", columns={"alpha": -np.log(x.n)}, rows=every),
        Term(name="data", amplitude="C", columns={"beta": -np.log(x.d_total)}, rows=every),
    )


@dataclass(frozen=True, kw_only=True)
class OverChinchilla(Law):
    """A law whose full-precision part is E + A/N^alpha + C/D_total^beta."""

    E: float = amplitude("E", "loss that neither parameters nor tokens remove")
    A: float = amplitude("A", "scale of the loss from finite model size", "nats/token * parameters^alpha")
    alpha: float = exponent("α", "exponent of model size", of="n")
    C: float = amplitude("C", "scale of the loss from finite data", "nats/token * tokens^beta")
    beta: float = exponent("β", "exponent of tokens", of="d_total")

    def derived(self) -> dict[str, float]:
        """Compute-optimal exponents of the full-precision part for compute 6*N*D (arXiv 2203.15556, equation 4)."""
        total = self.alpha + self.beta
        if not total > 0:
            return {}
        return {"compute_exponent_n": self.beta / total, "compute_exponent_d": self.alpha / total}


@dataclass(frozen=True, kw_only=True)
class Chinchilla(OverChinchilla):
    """L = E + A/N^alpha + C/D^beta (arXiv 2203.15556, equation 2)."""

    name: ClassVar[str] = "chinchilla"
    title: ClassVar[str] = "Chinchilla"
    formula: ClassVar[str] = "L = E + A/N^alpha + C/D^beta"
    source: ClassVar[str] = "Hoffmann et al. 2022, arXiv 2203.15556; constants: Besiroglu et al. 2024, arXiv 2404.10102"
    evidence: ClassVar[str] = "paper"
    sees_bits: ClassVar[bool] = False
    domain: ClassVar[str] = "full-precision runs; quantized rows are only fitted when they are asked for"

    @staticmethod
    def published() -> Chinchilla:
        """The corrected fit of the published data: arXiv 2404.10102, table 1."""
        return Chinchilla(E=1.8172, A=482.01, alpha=0.3478, C=2085.43, beta=0.3658)

    def every_term(self, x: Inputs) -> tuple[Term, ...]:
        """The three terms; bits and the split of the tokens are not seen."""
        return base_terms(x)
