"""Intervals from errors on held-out curves: the rank by hand, and growth with the distance."""

from __future__ import annotations

import numpy as np
import pytest

from qatplan.errors import UsageError
from qatplan.laws import Inputs, optimal_fraction
from qatplan.laws.fit_parts import SplitEvidence
from qatplan.laws.fraction_surface import FractionSurface
from qatplan.laws.split_interval import doublings, split_interval

LAW = FractionSurface(c_0=-1.0, c_B=-2.0, c_D=0.5)
RANGES = {"n": (1e5, 4e5), "d_total": (1e6, 8e6)}


def odds(f: np.ndarray) -> np.ndarray:
    return np.log(f / (1 - f))


def test_the_surface_is_its_formula() -> None:
    x = Inputs.of(n=1e5, d_total=[2e6, 4e6], bits=[3, 4], fraction=0.5)
    expected = [-1.0, -1.0 - 2.0 * np.log(4 / 3) + 0.5 * np.log(2)]
    assert odds(LAW.predict(x)) == pytest.approx(expected, rel=1e-12)
    assert optimal_fraction(LAW, n=1e5, d_total=2e6, bits=3).fraction == pytest.approx(1 / (1 + np.e))


def test_foreign_bits_and_full_precision_are_refused() -> None:
    why = LAW.outside(Inputs.of(n=1e5, d_total=2e6, bits=[np.nan, 8.0, 4.0, 0.5], fraction=[0, 0.5, 0.5, 0.5]))
    assert "no bit width" in str(why[0])
    assert "8 bits" in str(why[1])
    assert why[2] is None
    assert "0.5 bits" in str(why[3])
    with pytest.raises(UsageError, match="8 bits"):
        optimal_fraction(LAW, n=1e5, d_total=2e6, bits=8)


def test_the_reach_is_the_conformal_rank_of_the_errors() -> None:
    """Of 39 errors at 95 % the ceil(40 * .95) = 38th in size counts, whatever their signs."""
    sizes = np.arange(1, 40) / 10
    known = SplitEvidence(
        residuals=tuple(sorted(sizes * (-1.0) ** np.arange(39))), widening=0.2, scatter=0.5, scores=()
    )
    x = Inputs.of(n=2e5, d_total=2e6, bits=3, fraction=0.5)
    low, high = split_interval(known, x, np.array([0.3]), RANGES, level=0.95)
    middle = odds(np.array([0.3]))
    assert middle - odds(low) == pytest.approx([3.8])
    assert odds(high) - middle == pytest.approx([3.8])
    low, _ = split_interval(known, x, np.array([0.3]), RANGES, level=0.5)
    assert middle - odds(low) == pytest.approx([2.0])


def test_it_grows_with_each_doubling_beyond_the_range() -> None:
    x = Inputs.of(n=[1.6e6, 5e4, 2e5], d_total=[16e6, 2e6, 0.25e6], bits=3, fraction=0.5)
    assert doublings(x, RANGES) == pytest.approx([3.0, 1.0, 2.0])
    known = SplitEvidence(residuals=(-1.0, 1.0), widening=0.5, scatter=0.5, scores=())
    low, high = split_interval(known, x, np.full(3, 0.5), RANGES, level=0.95)
    assert odds(high) == pytest.approx([2.5, 1.5, 2.0])
    assert odds(low) == pytest.approx([-2.5, -1.5, -2.0])
