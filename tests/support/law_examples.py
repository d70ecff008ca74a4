"""A law of each kind with plausible values, and points to evaluate them at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qatplan.laws import EffectiveTokens, Inputs, Law, QatLoss, get

QAT = QatLoss(
    E=1.8, A=480.0, alpha=0.35, C=2000.0, beta=0.37, theta=0.1, kappa=1.0, phi=3.0, chi=0.5, psi=0.1, omega=0.5,
    lam=2.0, mu=0.5, nu=0.1, xi=0.6, rho=0.2,
)  # fmt: skip
EFFECTIVE_TOKENS = EffectiveTokens(
    E=1.0199, A=np.exp(-1.4949) * 5e4**0.6105, alpha=0.6105, C=np.exp(-1.67) * 2e6**0.7604, beta=0.7604, e0=-0.2149,
    e1=0.1213, eD=0.0, R=0.0113 * 2e6**0.7413, delta=0.7413, F=np.exp(-4.2252) * 40**-0.5957 * 5e4**0.0904, gF=0.5957,
    nF=0.0904, cF=1.0145, s=np.exp(-3.2225), r=np.exp(-3.1066) * 2 ** (3 * 1.3869) * 40**-0.3176 * 5e4**0.2208,
    c=1.3869, g=0.3176, psi=0.2208, omega=0.4795, log_d0=-5.4379,
)  # fmt: skip
POINTS = Inputs.of(
    n=[1e8, 1e9, 1e9, 3e8, 5e8], d_total=[1e10, 1e10, 3e10, 2e10, 1e11], bits=[4, 2, np.nan, 1, 4],
    fraction=[0.3, 0.1, 0, 0.9, 0.5],
)  # fmt: skip


def example(name: str) -> Law:
    """A law of the given name with plausible values."""
    if name == "qat-loss":
        return QAT
    if name == "effective-tokens":
        return EFFECTIVE_TOKENS
    law = get(name)
    if name == "fraction-surface":
        return law.from_params({"c_0": -1.6, "c_B": -2.3, "c_D": 0.7})
    published = getattr(law, "published", None)
    return published() if published is not None else law.from_params({"a": 6.7297})


def slopes(law: Law, x: Inputs) -> NDArray[np.float64]:
    """(points, parameters): central differences of the log predictions in the fitting coordinates."""
    theta, step = law.coordinates(), 1e-6

    def at(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.log(law.from_coordinates(vector).predict(x))

    return np.stack([(at(theta + step * e) - at(theta - step * e)) / (2 * step) for e in np.eye(len(theta))], axis=1)
