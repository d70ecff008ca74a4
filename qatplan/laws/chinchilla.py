"""The Chinchilla law, alone and as the full-precision part of every other loss law."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qatplan.laws.inputs import Inputs
from qatplan.laws.law import Parameter, ScalarLaw, Term, amplitude, exponent

PARAMETERS: tuple[Parameter, ...] = (
    amplitude("E", "E", "loss that neither parameters nor tokens remove"),
    amplitude("A", "A", "scale of the loss from finite model size", "nats/token * parameters^alpha"),
    exponent("alpha", "α", "exponent of model size"),
    amplitude("C", "C", "scale of the loss from finite data", "nats/token * tokens^beta"),
    exponent("beta", "β", "exponent of tokens"),
)


def base_terms(x: Inputs, values: Mapping[str, float]) -> tuple[Term, ...]:
    """E + A/N^alpha + C/D_total^beta at the given points, without the terms whose amplitude is 0."""
    every = np.ones(len(x), dtype=np.bool_)
    terms = (
        Term(name="irreducible", amplitude="E", columns={}, rows=every),
        Term(name="model size", amplitude="A", columns={"alpha": -np.log(x.n)}, rows=every),
        Term(name="data", amplitude="C", columns={"beta": -np.log(x.d_total)}, rows=every),
    )
    return tuple(t for t in terms if t.amplitude is None or values[t.amplitude] != 0)


def base_derived(values: Mapping[str, float]) -> dict[str, float]:
    """Compute-optimal exponents of the full-precision part for compute 6*N*D (arXiv 2203.15556, equation 4)."""
    alpha, beta = values["alpha"], values["beta"]
    total = alpha + beta
    if not total > 0:
        return {}
    return {"compute_exponent_n": beta / total, "compute_exponent_d": alpha / total}


@dataclass(frozen=True, kw_only=True)
class Chinchilla(ScalarLaw):
    """L = E + A/N^alpha + C/D^beta (arXiv 2203.15556, equation 2)."""

    E: float
    A: float
    alpha: float
    C: float
    beta: float

    name: ClassVar[str] = "chinchilla"
    title: ClassVar[str] = "Chinchilla"
    formula: ClassVar[str] = "L = E + A/N^alpha + C/D^beta"
    source: ClassVar[str] = "Hoffmann et al. 2022, arXiv 2203.15556; constants: Besiroglu et al. 2024, arXiv 2404.10102"
    firmness: ClassVar[str] = "paper"
    domain: ClassVar[str] = "full-precision runs; quantized rows are only fitted when they are asked for"
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = PARAMETERS

    @staticmethod
    def published() -> Chinchilla:
        """The corrected fit of the published data: arXiv 2404.10102, table 1."""
        return Chinchilla(E=1.8172, A=482.01, alpha=0.3478, C=2085.43, beta=0.3658)

    def terms(self, x: Inputs) -> tuple[Term, ...]:
        """The three terms; bits and the split of the tokens are not seen."""
        return base_terms(x, self.params())

    def outside(self, x: Inputs) -> list[str | None]:
        """No point is outside: the law does not see bits."""
        return [None] * len(x)

    def derived(self) -> dict[str, float]:
        """Exponents of the compute-optimal N and D."""
        return base_derived(self.params())
