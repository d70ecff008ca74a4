"""Fits to plan with. Every coefficient here is invented for the tests; none was measured or published."""

from collections.abc import Callable

import numpy as np
import pytest

from qatplan.laws import FittedLaw, QatLoss
from qatplan.laws.law import natural

INVENTED = {
    "E": 1.7, "A": 400.0, "alpha": 0.34, "C": 1000.0, "beta": 0.36, "theta": 0.5, "kappa": 1.2, "phi": 2.0, "chi": 0.8,
    "psi": 0.1, "omega": 0.4, "lam": 0.8, "mu": 0.3, "nu": 0.05, "xi": 0.4, "rho": 0.1,
}  # fmt: skip
RANGES = {"n": (1e8, 2e9), "d_total": (1e9, 1e12), "bits": (1.0, 8.0), "fraction": (0.01, 0.99), "s_total": (5.0, 1e5)}


@pytest.fixture
def law() -> QatLoss:
    return QatLoss(**INVENTED)


@pytest.fixture
def fitted(law: QatLoss) -> Callable[..., FittedLaw]:
    """Build a fit of the invented law: `fitted(scatter=0.01)` has 400 draws, `fitted()` none."""

    def build(*, scatter: float = 0.0, **changes: object) -> FittedLaw:
        draws = None
        if scatter:
            rng = np.random.default_rng(7)
            centre = law.coordinates()
            vectors = centre * (1 + scatter * rng.standard_normal((400, centre.size)))
            draws = np.array([list(natural(law.parameters(), v).values()) for v in vectors])
        fields = {"law": law, "draws": draws, "noise": 1e-4, "ranges": RANGES, "rows": 100, **changes}
        return FittedLaw(**fields)

    return build
