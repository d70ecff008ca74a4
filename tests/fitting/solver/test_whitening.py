"""Whitened residuals: the root of a covariance, whatever the order of the rows."""

from __future__ import annotations

import numpy as np
import pytest

from qatplan.fitting.solver.whitening import Whitening

RNG = np.random.default_rng(0)
TRUNK = RNG.integers(0, 4, 40)
CURVE = TRUNK * 10 + RNG.integers(0, 5, 40)
WHITE = Whitening(groups=(TRUNK, CURVE), ratios=(1.5, 0.7))
COVARIANCE = np.eye(40) + 2.25 * np.equal.outer(TRUNK, TRUNK) + 0.49 * np.equal.outer(CURVE, CURVE)


def test_it_is_the_root_of_the_inverse_covariance() -> None:
    root = WHITE(np.eye(40)[:, :])
    np.testing.assert_allclose(root, root.T, atol=1e-14)
    np.testing.assert_allclose(root @ COVARIANCE @ root, np.eye(40), atol=1e-12)
    assert WHITE.log_determinant == pytest.approx(np.linalg.slogdet(COVARIANCE)[1], rel=1e-12)


def test_colouring_undoes_it() -> None:
    values = RNG.standard_normal((3, 40))
    np.testing.assert_allclose(WHITE.coloured(WHITE(values)), values, atol=1e-12)


def test_columns_are_whitened_one_by_one() -> None:
    values = RNG.standard_normal((3, 40, 2))
    made = WHITE(values)
    for k in range(3):
        for p in range(2):
            np.testing.assert_allclose(made[k, :, p], WHITE(values[k : k + 1, :, p])[0], atol=1e-14)


def test_the_order_of_rows_plays_no_part() -> None:
    order, values = RNG.permutation(40), RNG.standard_normal((1, 40))
    np.testing.assert_allclose(WHITE.take(order)(values[:, order]), WHITE(values)[:, order], atol=1e-13)


def test_some_rows_are_whitened_by_their_own_covariance() -> None:
    kept = np.arange(0, 40, 3)
    root = WHITE.take(kept)(np.eye(len(kept)))
    np.testing.assert_allclose(root @ COVARIANCE[np.ix_(kept, kept)] @ root, np.eye(len(kept)), atol=1e-12)


def test_without_effects_nothing_changes() -> None:
    values = RNG.standard_normal((2, 40))
    np.testing.assert_array_equal(Whitening(groups=(TRUNK, CURVE), ratios=(0.0, 0.0))(values), values)
