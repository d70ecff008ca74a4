"""Runs simulated from known laws, for tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from qatplan.fitting.rows import Rows, select
from qatplan.laws import Chinchilla, Inputs, Law, QatLoss

TRUE_CHINCHILLA = Chinchilla.published()
# Chosen by us for tests; the paper's coefficients are not public.
TRUE_QAT = QatLoss(
    E=1.8, A=480.0, alpha=0.35, C=2000.0, beta=0.37, theta=0.25, kappa=1.2, phi=4.0, chi=0.7, psi=0.12, omega=0.45,
    lam=2.0, mu=0.6, nu=0.1, xi=0.6, rho=0.15,
)  # fmt: skip


def chinchilla_points(count: int = 240, seed: int = 0) -> Inputs:
    """Sizes and tokens spread like those of the published Chinchilla runs (N 5e7-1.6e10, compute 1e18-3e21)."""
    rng = np.random.default_rng(seed)
    n = np.exp(rng.uniform(np.log(5e7), np.log(1.6e10), count))
    compute = np.exp(rng.uniform(np.log(1e18), np.log(3e21), count))
    return Inputs.of(n=n, d_total=np.clip(compute / 6 / n, 1e8, 1e12))


def qat_points(count: int = 757, seed: int = 0) -> Inputs:
    """A sweep like the published one: 86M-2.2B parameters, bits 1, 2, 4, 6 and full precision, all fractions."""
    rng = np.random.default_rng(seed)
    n = rng.choice([86e6, 194e6, 396e6, 759e6, 1.5e9, 2.2e9], count)
    d_total = n * rng.choice(np.geomspace(20, 600, 8), count)
    bits = rng.choice([1, 2, 4, 6, np.nan], count, p=[0.22, 0.22, 0.22, 0.22, 0.12])
    fraction = np.where(np.isnan(bits), 0.0, 1 / (1 + np.exp(-rng.uniform(-4, 3, count))))
    return Inputs.of(n=n, d_total=d_total, bits=bits, fraction=fraction)


def observed(law: Law, x: Inputs, noise: float = 0.003, seed: int = 0) -> np.ndarray:
    """The law's losses with log-normal noise."""
    return law.predict(x) * np.exp(noise * np.random.default_rng([seed, 9]).standard_normal(len(x)))


def table(x: Inputs, y: np.ndarray, **more: Any) -> dict[str, Any]:
    """Columns with our field names."""
    return {
        "n_total": x.n,
        "d_fp": x.d_fp,
        "d_qat": x.d_qat,
        "bits": x.bits,
        "group_size": x.group_size,
        "loss": y,
        **more,
    }


def rows(law: Law, x: Inputs, y: np.ndarray) -> Rows:
    """Rows ready to be fitted by a law of this kind."""
    return select(table(x, y), law.name, shape=type(law))
