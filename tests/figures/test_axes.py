"""The log-odds axis, round ticks and padded limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from qatplan.figures.axes import FractionScale, log_axis, nice_log_ticks, padded_log
from qatplan.units import format_count


def test_interior_fractions_lie_at_their_log_odds() -> None:
    scale = FractionScale.spanning([0.0, 0.01, 0.5, 0.9, 1.0])
    assert scale.positions([0.01, 0.5, 0.9]) == pytest.approx([math.log(1 / 99), 0.0, math.log(9)])


def test_ends_stand_apart_by_the_gap() -> None:
    scale = FractionScale.spanning([0.0, 0.01, 0.5, 0.9, 1.0])
    span = math.log(9) + math.log(99)
    assert scale.gap == pytest.approx(0.16 * span)
    assert scale.positions([0.0, 1.0]) == pytest.approx([-math.log(99) - 0.16 * span, math.log(9) + 0.16 * span])


@given(st.lists(st.floats(1e-4, 1 - 1e-4), min_size=1, max_size=9))
def test_positions_keep_the_order_of_fractions(inner: list[float]) -> None:
    # To six digits: neighbouring floats may have the same log-odds.
    fractions = sorted({0.0, 1.0, *(round(fraction, 6) for fraction in inner)})
    positions = FractionScale.spanning(fractions).positions(fractions)
    assert np.all(np.diff(positions) > 0)


def test_ticks_name_the_set_apart_ends() -> None:
    axes = Figure().add_subplot()
    FractionScale.spanning([0.0, 0.01, 0.5, 1.0]).apply(axes)
    labels = [t.get_text() for t in axes.get_xticklabels()]
    assert labels == ["0", ".01", ".03", ".1", ".3", ".5", "1"]


def test_scale_without_ends_has_no_tick_for_them() -> None:
    axes = Figure().add_subplot()
    FractionScale.spanning([0.05, 0.4]).apply(axes)
    labels = [t.get_text() for t in axes.get_xticklabels()]
    assert labels == [".1", ".3", ".5"]


@given(st.floats(1e-3, 1e12), st.floats(1.5, 1e6), st.integers(3, 8))
def test_log_ticks_are_inside_and_few(low: float, ratio: float, most: int) -> None:
    ticks = nice_log_ticks(low, low * ratio, most)
    assert 1 <= len(ticks) <= most
    assert all(low * (1 - 1e-6) <= t <= low * ratio * (1 + 1e-6) for t in ticks)


def test_binary_ticks_are_powers_of_two() -> None:
    assert nice_log_ticks(3.0, 70.0, most=9, base=2.0) == [4.0, 8.0, 16.0, 32.0, 64.0]


def test_log_axis_names_its_ticks() -> None:
    axes = Figure().add_subplot()
    log_axis(axes, "y", 1e5, 2e7, format_count, most=4)
    assert axes.get_ylim() == (1e5, 2e7)
    assert [t.get_text() for t in axes.get_yticklabels()] == ["100K", "1M", "10M"]


def test_padded_limits_surround_the_values() -> None:
    low, high = padded_log([10.0, 1000.0], share=0.1)
    assert (low, high) == pytest.approx((10 * 100**-0.1, 1000 * 100**0.1))
