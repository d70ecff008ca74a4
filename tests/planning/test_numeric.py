"""Minimum, crossing and root of functions whose answers are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator

from qatplan.planning.numeric import first_below, minimise, root_of_falling, shape_preserving


@settings(deadline=None)
@given(st.floats(-20, 20), st.floats(0.1, 30))
def test_minimum_of_a_valley(centre: float, steepness: float) -> None:
    at, value = minimise(lambda x: np.cosh((x - centre) / steepness), -25.0, 25.0)
    assert at == pytest.approx(centre, abs=1e-5 * steepness)
    assert value == pytest.approx(1.0, abs=1e-12)


def test_minimum_at_either_end_is_the_end_itself() -> None:
    assert minimise(lambda x: x, -3.0, 7.0) == (-3.0, -3.0)
    assert minimise(lambda x: -(x**3), -3.0, 7.0) == (7.0, -343.0)
    assert minimise(lambda x: np.where(x < 1, np.nan, x), 0.0, 2.0)[0] == pytest.approx(1.0)


@settings(deadline=None)
@given(st.floats(0.1, 5), st.floats(1e-6, 0.9))
def test_first_crossing(rate: float, target: float) -> None:
    found = first_below(lambda x: np.exp(-rate * x), target, 0.0, 200.0)
    assert found == pytest.approx(-np.log(target) / rate, abs=1e-9)


def test_crossing_of_a_step_and_of_nothing() -> None:
    assert first_below(lambda x: np.where(x > 0.3, 0.0, 1.0), 0.5, -3.0, 9.0) == pytest.approx(0.3, abs=1e-9)
    assert first_below(lambda x: 1 + np.exp(-x), 0.5, 0.0, 50.0) is None
    assert first_below(lambda x: np.exp(-x), 2.0, 0.0, 50.0) == 0.0


@settings(deadline=None)
@given(st.floats(0.01, 3), st.floats(0.001, 0.99))
def test_root_of_falling(rate: float, target: float) -> None:
    found = root_of_falling(lambda x: float(np.exp(-rate * x)), target, 0.0, 1000.0)
    assert np.exp(-rate * found) == pytest.approx(target, rel=1e-9)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.floats(0.05, 3.0), st.floats(-5, 5)), min_size=3, max_size=9))
def test_the_cubic_that_keeps_its_shape_is_scipys(points: list[tuple[float, float]]) -> None:
    x, y = np.cumsum([step for step, _ in points]), np.array([round(value, 3) for _, value in points])
    at = np.linspace(x[0], x[-1], 57)
    assert shape_preserving(x, y, at) == pytest.approx(PchipInterpolator(x, y)(at), abs=1e-9)
