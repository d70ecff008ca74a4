"""Factors whose log is no column times a coordinate: exact derivatives by complex step, and their limits."""

from __future__ import annotations

import numpy as np
import pytest

from qatplan.laws.nonlinear import Held, Join, Nonlinear, Saturating, Saturation, TokenWorth

FRACTION = np.array([0.0, 0.01, 0.3, 0.9, 1.0])
WORTH = TokenWorth(
    exponent="beta",
    rates=("a", "b", "c"),
    fraction=FRACTION,
    columns=np.stack([np.ones(5), np.array([-2.0, -1, 0, 1, 3]), np.array([1.0, 0, -1, 2, 4])], axis=1),
)
CASES: list[tuple[Nonlinear, list[float]]] = [
    (WORTH, [-0.2, 0.12, 0.05]),
    (Held.of(WORTH, {"b": 0.12}), [-0.2, 0.05]),
    (Join(exponent="omega", rates=("d0",), x=np.array([0.0, 0.01, 1.0, 50.0]), reference=np.ones(4)), [-4.0]),
    (Saturating(exponent="c", rates=("s",), q=np.array([9.7, 3.0, 1.0, 0.3, 0.0])), [0.4]),
    (Saturating(exponent="c", rates=("s",), q=np.array([9.7, 3.0, 1.0, 0.3, 0.0])), [0.0]),
    (Saturation(exponent="alpha", rates=("rate",), bits=np.array([1.0, 4.0, 8.0])), [0.4]),
]


@pytest.mark.parametrize(("factor", "at"), CASES, ids=lambda c: type(c).__name__)
def test_derivatives_are_exact(factor: Nonlinear, at: list[float]) -> None:
    column, first, second = factor.derivatives([np.array([v]) for v in at])
    np.testing.assert_allclose(factor.column([np.array([v]) for v in at]), column, rtol=1e-14)
    step = 1e-30
    for i in range(len(at)):
        moved = [np.array([v + (1j * step if j == i else 0)]) for j, v in enumerate(at)]
        column_there, first_there, _ = factor.derivatives(moved)
        np.testing.assert_allclose(first[i], np.imag(column_there) / step, rtol=1e-12, atol=1e-15)
        for j in range(len(at)):
            np.testing.assert_allclose(second[j][i], np.imag(first_there[j]) / step, rtol=1e-11, atol=1e-15)


def test_tokens_of_the_second_phase_are_worth_eta() -> None:
    worth = np.exp(-WORTH.column([np.array([np.log(0.7)]), np.array([0.0]), np.array([0.0])]))
    np.testing.assert_allclose(worth, 1 - FRACTION + 0.7 * FRACTION, rtol=1e-14)


def test_a_saturating_square_is_itself_when_small_and_bounded_when_large() -> None:
    q, s = np.array([1e-9, 1.0, 1e9]), 0.5
    made = q * np.exp(Saturating(exponent="c", rates=("s",), q=q).column([np.array([s])]))
    np.testing.assert_allclose(made, [1e-9 * (1 + s), 1.0, 1 + 1 / s], rtol=1e-8)


def test_held_rates_leave_the_factor_as_it_is() -> None:
    held = Held.of(WORTH, {"a": -0.2, "c": 0.05, "unrelated": 3.0})
    assert held.rates == ("b",)
    whole = WORTH.column([np.array([-0.2]), np.array([0.3]), np.array([0.05])])
    np.testing.assert_array_equal(held.column([np.array([0.3])]), whole)
    np.testing.assert_array_equal(held.take(slice(1, 3)).column([np.array([0.3])]), whole[1:3])
    assert Held.of(WORTH, {"unrelated": 3.0}) is WORTH
