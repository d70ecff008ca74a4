"""Regret on curves whose minimum is known, and the interpolation against formulas written out here."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.curves import curve_table

from qatplan.errors import DataError
from qatplan.fitting.curves import Curve
from qatplan.fitting.split.regret import log_odds, measured_curves, regret


def curve(fraction: np.ndarray, loss: np.ndarray) -> Curve:
    return Curve(
        n=1e6, d_total=1e8, bits=4, group_size=math.nan, quantizer=None, seed=0, fraction=fraction, loss=loss, ends={}
    )


def at(u: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-u))


def test_a_parabola_in_log_odds_costs_its_height_above_the_vertex() -> None:
    u = np.linspace(-4, 3, 141)
    vertex, height = -1.0, 0.03
    parabola = curve(at(u), 2.0 + height * (u - vertex) ** 2)
    assert regret(parabola, at(np.array(vertex))) == pytest.approx(0, abs=1e-12)
    asked = np.random.default_rng(1).uniform(-4, 3, 300)
    assert regret(parabola, at(asked)) == pytest.approx(height * (asked - vertex) ** 2, abs=height * 1e-3)


def test_beyond_what_was_measured_the_end_counts_and_no_fraction_costs_nothing_known() -> None:
    line = curve(np.array([0.1, 0.2, 0.3, 0.4, 0.5]), np.array([2.5, 2.4, 2.3, 2.2, 2.1]))
    assert regret(line, [0.0, 0.01, 0.1, 0.5, 0.9, 1.0]) == pytest.approx([0.4, 0.4, 0.4, 0, 0, 0], abs=1e-12)
    assert np.isnan(regret(line, np.nan))


def _hermite(u: np.ndarray, y: np.ndarray, k: int, t: float) -> float:
    """The cubic of Fritsch and Butland between inner points k and k + 1, at share t of the way, from its definition."""
    h, slope = np.diff(u), np.diff(y) / np.diff(u)

    def derivative(i: int) -> float:
        if slope[i - 1] * slope[i] <= 0:
            return 0.0
        w1, w2 = 2 * h[i] + h[i - 1], h[i] + 2 * h[i - 1]
        return float((w1 + w2) / (w1 / slope[i - 1] + w2 / slope[i]))

    a, b = derivative(k), derivative(k + 1)
    return float(
        (2 * t**3 - 3 * t**2 + 1) * y[k]
        + (t**3 - 2 * t**2 + t) * h[k] * a
        + (-2 * t**3 + 3 * t**2) * y[k + 1]
        + (t**3 - t**2) * h[k] * b
    )


@given(st.integers(0, 10_000), st.integers(1, 5), st.floats(0, 1))
def test_interpolation_keeps_the_shape(seed: int, k: int, t: float) -> None:
    rng = np.random.default_rng(seed)
    u = np.sort(rng.uniform(-5, 4, 8)) + 0.05 * np.arange(8)
    y = 2 + 0.1 * rng.standard_normal(8)
    made = curve(at(u), y)
    assert regret(made, at(u)) == pytest.approx(y - y.min(), abs=1e-12)
    between = float(regret(made, at(u[k] + t * (u[k + 1] - u[k]))))
    assert between == pytest.approx(_hermite(u, y, k, t) - y.min(), abs=1e-9)
    low, high = sorted(y[k : k + 2] - y.min())
    assert low - 1e-12 <= between <= high + 1e-12


def test_log_odds() -> None:
    assert log_odds(np.array([0.5, 0.9])) == pytest.approx([0, math.log(9)])


def test_curves_are_those_with_five_fractions_inside() -> None:
    flat = curve_table(lambda x: 2 + 0.1 * np.log(np.where(x.quantized, x.fraction, 0.15) / 0.15) ** 2)
    rows, found = measured_curves(flat)
    assert len(rows) == flat.num_rows
    assert len(found) == 27
    assert all(m.fraction == pytest.approx(0.15, abs=0.01) for m in found)
    few = flat.filter([f < 0.2 or b is None for f, b in zip(_shares(flat), flat["bits"].to_pylist(), strict=True)])
    with pytest.raises(DataError, match=r"of 27 curves the longest has 4\), so there is nothing to score"):
        measured_curves(few)


def _shares(table) -> list[float]:  # type: ignore[no-untyped-def]
    return [q / d for q, d in zip(table["d_qat"].to_pylist(), table["d_total"].to_pylist(), strict=True)]
