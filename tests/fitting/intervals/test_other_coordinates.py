"""Profile intervals of parameters that a fit sees as factors or inverses."""

from __future__ import annotations

import numpy as np
from support.simulated import observed, table

from qatplan.fitting.api import fit
from qatplan.fitting.options import FitOptions
from qatplan.laws import Effective, Inputs, Precision


def points(bits: tuple[float, ...]) -> Inputs:
    """Sizes and budgets at several bit widths, trained in QAT from the start or in full precision."""
    rng = np.random.default_rng(0)
    width = rng.choice([*bits, np.nan], 160)
    n = rng.choice([1e8, 3e8, 1e9, 3e9], 160)
    return Inputs.of(
        n=n, d_total=n * rng.choice([10, 40, 160], 160), bits=width, fraction=np.where(np.isnan(width), 0.0, 1.0)
    )


def test_factors_and_bits_have_intervals_that_hold_the_truth() -> None:
    effective = Effective.published()
    x = points(effective.bit_widths)
    made = fit(
        table(x, observed(effective, x, 0.001)), FitOptions(law="effective", interval="profile", fix={"alpha": 0.3478})
    )
    for b, value in zip(effective.bit_widths, effective.eff, strict=True):
        low, high = made.intervals[f"eff_{b:g}"]
        assert 0 < low < value < high <= 1
        assert high - low < 0.2
    precision = Precision.published()
    x = points((2.0, 3.0, 4.0, 6.0))
    made = fit(table(x, observed(precision, x, 0.001)), FitOptions(law="precision", interval="profile", restrict=True))
    low, high = made.intervals["gamma_w"]
    assert low < precision.gamma_w < high
    assert high - low < 1.0
