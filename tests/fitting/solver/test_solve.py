"""The global solver: against independent optimisers, from bad data, over many rows."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
from scipy.optimize import least_squares
from support.law_examples import slopes
from support.simulated import TRUE_CHINCHILLA, TRUE_QAT, chinchilla_points, observed, qat_points

from qatplan.fitting.solver.newton import minimise
from qatplan.fitting.solver.objective import Weighted
from qatplan.fitting.solver.problem import build
from qatplan.fitting.solver.solve import _describe, solve
from qatplan.laws import Law, Status
from qatplan.laws.inputs import Inputs


def scipy_objective(law: Law, x: Inputs, y: np.ndarray, delta: float) -> float:
    """SciPy's trust-region least squares with Huber loss, started at the truth: an optimiser we did not write."""
    names = [p.name for p in law.parameters()]
    lower = [p.lower if p.coordinate == "linear" else -np.inf for p in law.parameters()]
    upper = [p.upper if p.coordinate == "linear" else np.inf for p in law.parameters()]

    def residual(theta: np.ndarray) -> np.ndarray:
        return np.log(law.from_coordinates(theta).predict(x) / y)

    def jac(theta: np.ndarray) -> np.ndarray:
        return slopes(law.from_coordinates(theta), x)

    found = least_squares(
        residual, law.coordinates(), jac=jac, bounds=(lower, upper), loss="huber", f_scale=delta, x_scale="jac",
        ftol=1e-15, xtol=1e-15, gtol=1e-15, max_nfev=3000,
    )  # fmt: skip
    assert len(names) == len(found.x)
    return float(found.cost)


@pytest.mark.parametrize("noise", [0.001, 0.01, 0.03])
def test_chinchilla_is_never_above_scipy(noise: float) -> None:
    x = chinchilla_points()
    y = observed(TRUE_CHINCHILLA, x, noise)
    found = solve(build(TRUE_CHINCHILLA, x, y), delta=1e-3, seed=0)
    assert found.status is Status.GOOD
    assert found.objective <= scipy_objective(TRUE_CHINCHILLA, x, y, 1e-3) * (1 + 1e-9)
    assert found.certificate.starts_agreeing == found.certificate.starts


def test_qat_loss_is_never_above_scipy_from_the_truth() -> None:
    x = qat_points()
    y = observed(TRUE_QAT, x, 0.001)
    found = solve(build(TRUE_QAT, x, y), delta=1e-3, seed=0)
    assert found.status is Status.GOOD
    assert found.objective <= scipy_objective(TRUE_QAT, x, y, 1e-3) * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_qat_loss_finds_what_more_starts_find(seed: int) -> None:
    x = qat_points(400, seed=seed)
    y = observed(TRUE_QAT, x, 0.003, seed)
    problem = build(TRUE_QAT, x, y)
    quick = solve(problem, delta=1e-3, seed=0)
    thorough = solve(problem, delta=1e-3, seed=17, starts=48)
    task = Weighted(problem=problem, weights=np.ones(len(y)), log_y=problem.log_y)
    from_truth = minimise(task, problem.scaled(TRUE_QAT.coordinates())[None, :], deltas=[1e-3])
    assert quick.objective <= min(thorough.objective, float(from_truth.value[0])) * (1 + 1e-9)
    assert quick.certificate.scaled_gradient < 1e-5


def test_exact_data_are_recovered() -> None:
    x = qat_points(400)
    found = solve(build(TRUE_QAT, x, TRUE_QAT.predict(x)), delta=1e-3, seed=0)
    law = TRUE_QAT.from_coordinates(found.theta())
    assert found.status is Status.GOOD
    for name, true in TRUE_QAT.params().items():
        assert law.params()[name] == pytest.approx(true, rel=1e-5)


def test_same_seed_same_bits() -> None:
    x = qat_points(300)
    y = observed(TRUE_QAT, x)
    first, second = (solve(build(TRUE_QAT, x, y), delta=1e-3, seed=3, starts=6) for _ in range(2))
    np.testing.assert_array_equal(first.u, second.u)
    assert first.certificate == second.certificate


def test_an_indeterminate_law_is_called_undetermined() -> None:
    """One token budget per model size: C/D^beta and A/N^alpha are the same function of N."""
    n = np.repeat(np.geomspace(1e7, 1e9, 6), 4)
    x = Inputs.of(n=n, d_total=20 * n)
    found = solve(build(TRUE_CHINCHILLA, x, observed(TRUE_CHINCHILLA, x, 0.01)), delta=1e-3, seed=0)
    assert found.status is not Status.GOOD or found.certificate.condition_number > 1e8 or found.at_bounds


def test_vanishing_irreducible_loss_is_at_its_bound() -> None:
    """Losses that fall faster than any power law with E >= 0 allows."""
    law = TRUE_CHINCHILLA.replace({"E": 1e-12})
    x = chinchilla_points()
    found = solve(build(law, x, observed(law, x, 0.001) - 0.05), delta=1e-3, seed=0)
    assert "E" in found.at_bounds


def test_hundred_thousand_rows() -> None:
    x = chinchilla_points(100_000)
    y = observed(TRUE_CHINCHILLA, x, 0.01)
    tracemalloc.start()
    begin = time.process_time()
    found = solve(build(TRUE_CHINCHILLA, x, y), delta=1e-3, seed=0)
    spent = time.process_time() - begin
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.status is Status.GOOD
    assert spent < 30
    assert peak < 250e6
    assert TRUE_CHINCHILLA.from_coordinates(found.theta()).params()["alpha"] == pytest.approx(0.3478, abs=0.01)


def test_a_hair_inside_a_bound_is_at_the_bound() -> None:
    """A step that the bound cuts off must not be promised, else it is refused until nothing moves any more."""
    x = chinchilla_points(60)
    law = TRUE_CHINCHILLA.replace({"beta": 1e-9})
    problem = build(TRUE_CHINCHILLA, x, law.predict(x) * np.exp(0.01 * np.log(x.d_total / 1e10)))
    task = Weighted(problem=problem, weights=np.ones(60), log_y=problem.log_y)
    begin = problem.scaled(TRUE_CHINCHILLA.replace({"beta": 0.3}).coordinates())
    at = [p.name for p in problem.free].index("beta")
    best = minimise(task, begin[None], deltas=[1e-3]).u
    assert best[0, at] == 0
    best[0, at] = 5e-20
    again = minimise(task, best, deltas=[1e-3])
    assert again.decrement[0] < 1e-12
    assert again.u[0, at] == 0


def test_the_status_follows_what_one_more_step_would_gain() -> None:
    x = chinchilla_points()
    problem = build(TRUE_CHINCHILLA, x, observed(TRUE_CHINCHILLA, x, 0.01))
    task = Weighted(problem=problem, weights=np.ones(len(problem.log_y)), log_y=problem.log_y)
    found = minimise(task, solve(problem, delta=1e-3, seed=0).u[None, :], deltas=[1e-3], iterations=60)
    for power in range(-16, 4):
        found.decrement[:] = 10.0**power
        ended = _describe(task, found, tried=1, agreeing=1)
        assert ended.certificate.newton_decrement == 10.0**power
        assert ended.status is (Status.NOT_CONVERGED if power > -9 else Status.GOOD)
