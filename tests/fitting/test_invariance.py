"""What must not change a fit: row order, and what must change it exactly as algebra says: units, repeated rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.simulated import TRUE_CHINCHILLA, TRUE_QAT, chinchilla_points, observed, qat_points, table

from qatplan.fitting.api import fit
from qatplan.fitting.options import FitOptions
from qatplan.fitting.solver.newton import minimise
from qatplan.fitting.solver.objective import Weighted
from qatplan.fitting.solver.problem import build
from qatplan.fitting.solver.solve import solve
from qatplan.laws import Inputs

X = chinchilla_points(60)
Y = observed(TRUE_CHINCHILLA, X, 0.01)
BASE = solve(build(TRUE_CHINCHILLA, X, Y), delta=1e-3, seed=0)
QX = qat_points(250)
QY = observed(TRUE_QAT, QX, 0.001)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_row_order_changes_nothing(seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(X))
    found = solve(build(TRUE_CHINCHILLA, X.take(order), Y[order]), delta=1e-3, seed=0)
    assert found.objective == pytest.approx(BASE.objective, rel=1e-11)
    np.testing.assert_allclose(found.theta(), BASE.theta(), rtol=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6), st.floats(1e-3, 1e3))
def test_units_change_amplitudes_exactly(n_unit: float, d_unit: float, loss_unit: float) -> None:
    """Counting N in units of 1/a, D in 1/b and loss in 1/c: A' = c A a^alpha, C' = c C b^beta, E' = c E."""
    scaled = Inputs.of(n=X.n * n_unit, d_total=X.d_total * d_unit)
    found = solve(build(TRUE_CHINCHILLA, scaled, Y * loss_unit), delta=1e-3, seed=0)
    base = TRUE_CHINCHILLA.from_coordinates(BASE.theta()).params()
    law = TRUE_CHINCHILLA.from_coordinates(found.theta()).params()
    assert found.objective == pytest.approx(BASE.objective, rel=1e-9)
    assert law["alpha"] == pytest.approx(base["alpha"], rel=1e-5)
    assert law["beta"] == pytest.approx(base["beta"], rel=1e-5)
    assert law["E"] == pytest.approx(loss_unit * base["E"], rel=1e-5)
    assert law["A"] == pytest.approx(loss_unit * base["A"] * n_unit ** base["alpha"], rel=1e-3)
    assert law["C"] == pytest.approx(loss_unit * base["C"] * d_unit ** base["beta"], rel=1e-3)


@settings(max_examples=3, deadline=None)
@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_units_change_amplitudes_of_qat_loss_exactly(n_unit: float, d_unit: float) -> None:
    """S counts D per N, so phi' = phi a^psi (b/a)^omega and lam' = lam a^nu (b/a)^(xi + rho); theta stays."""
    y = TRUE_QAT.predict(QX)
    scaled = Inputs.of(n=QX.n * n_unit, d_fp=QX.d_fp * d_unit, d_qat=QX.d_qat * d_unit, bits=QX.bits)
    law = TRUE_QAT.from_coordinates(solve(build(TRUE_QAT, scaled, y), delta=1e-3, seed=0).theta()).params()
    true, ratio = TRUE_QAT.params(), d_unit / n_unit
    expected = {
        **true,
        "A": true["A"] * n_unit ** true["alpha"],
        "C": true["C"] * d_unit ** true["beta"],
        "phi": true["phi"] * n_unit ** true["psi"] * ratio ** true["omega"],
        "lam": true["lam"] * n_unit ** true["nu"] * ratio ** (true["xi"] + true["rho"]),
    }
    for name, value in expected.items():
        assert law[name] == pytest.approx(value, rel=1e-4)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=60, max_size=60))
def test_repeated_rows_equal_weights(times: list[int]) -> None:
    again = np.repeat(np.arange(60), times)
    repeated = solve(build(TRUE_CHINCHILLA, X.take(again), Y[again]), delta=1e-3, seed=0)
    problem = build(TRUE_CHINCHILLA, X, Y)
    task = Weighted(problem=problem, weights=np.array(times, dtype=float), log_y=problem.log_y)
    weighted = minimise(task, problem.scaled(TRUE_CHINCHILLA.coordinates())[None, :], deltas=[0.1, 1e-3])
    assert weighted.value[0] == pytest.approx(repeated.objective, rel=1e-10)
    np.testing.assert_allclose(problem.theta(weighted.u[0]), repeated.theta(), rtol=1e-6)


def test_row_order_changes_nothing_for_qat_loss() -> None:
    order = np.random.default_rng(1).permutation(len(QX))
    one = solve(build(TRUE_QAT, QX, QY), delta=1e-3, seed=0)
    other = solve(build(TRUE_QAT, QX.take(order), QY[order]), delta=1e-3, seed=0)
    assert one.objective == pytest.approx(other.objective, rel=1e-10)
    np.testing.assert_allclose(one.theta(), other.theta(), rtol=1e-4)


def test_column_order_changes_nothing() -> None:
    columns = table(X, Y)
    turned = dict(reversed(columns.items()))
    assert fit(columns, FitOptions(law="chinchilla")).params == fit(turned, FitOptions(law="chinchilla")).params


def test_the_rows_digest_ignores_order_and_sees_values() -> None:
    names = [f"r{i}" for i in range(60)]
    columns = table(X, Y, run_id=names)
    order = np.random.default_rng(0).permutation(60)
    shuffled = table(X.take(order), Y[order], run_id=[names[i] for i in order])
    changed = table(X, Y * (1 + 1e-12), run_id=names)
    digests = [fit(c, FitOptions(law="chinchilla")).provenance.rows_digest for c in (columns, shuffled, changed)]
    assert digests[0] == digests[1] != digests[2]
