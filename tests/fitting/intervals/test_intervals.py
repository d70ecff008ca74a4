"""Bootstrap and profile intervals: against tight refits, against each other, and covering the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from support.simulated import TRUE_CHINCHILLA, TRUE_QAT, chinchilla_points, observed, qat_points, rows, table

from qatplan.errors import UsageError
from qatplan.fitting.api import fit
from qatplan.fitting.intervals.bootstrap import draw
from qatplan.fitting.intervals.profile import calibrate, intervals
from qatplan.fitting.options import FitOptions
from qatplan.fitting.rows import select
from qatplan.fitting.solver.newton import minimise
from qatplan.fitting.solver.objective import Weighted
from qatplan.fitting.solver.problem import build
from qatplan.fitting.solver.solve import deltas, solve
from qatplan.fitting.solver.starts import design
from qatplan.laws import Chinchilla, Inputs
from qatplan.laws.law import predict_many


def test_warm_draws_are_where_independent_global_fits_end() -> None:
    x = qat_points(500)
    data = rows(TRUE_QAT, x, observed(TRUE_QAT, x, 0.001))
    solution = solve(build(TRUE_QAT, data.x, data.y), delta=1e-3, seed=0)
    made = draw(solution, data, count=4, seed=4, delta=1e-3)
    rng = np.random.default_rng([4, 1])
    weights = rng.multinomial(len(data), np.full(len(data), 1 / len(data)), size=4).astype(float)[:, data.cluster]
    for k in range(4):
        task = Weighted(problem=solution.problem, weights=weights[k], log_y=solution.problem.log_y)
        alone = minimise(task, design(task, 12, 9), deltas=deltas(1e-3))
        theta = solution.problem.theta(alone.u[np.argmin(alone.value)])
        np.testing.assert_allclose(made.theta[k], theta, rtol=1e-3, atol=1e-3)


def test_draws_end_at_their_minima_where_the_objective_is_nearly_piecewise_linear() -> None:
    """Scatter 30 times delta: stopped after 120 steps, half of these draws stay near the fit and spread too little."""
    x = qat_points(200)
    data = rows(TRUE_QAT, x, observed(TRUE_QAT, x, 0.03))
    solution = solve(build(TRUE_QAT, data.x, data.y), delta=1e-3, seed=0)
    assert draw(solution, data, count=40, seed=0, delta=1e-3).how.unfinished <= 6


def test_draws_are_the_same_for_any_number_of_workers() -> None:
    x = chinchilla_points()
    data = rows(TRUE_CHINCHILLA, x, observed(TRUE_CHINCHILLA, x, 0.01))
    solution = solve(build(TRUE_CHINCHILLA, data.x, data.y), delta=1e-3, seed=0)
    one, two = (draw(solution, data, count=900, seed=0, delta=1e-3, workers=w).theta for w in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_bootstrap_profile_and_sandwich_agree_where_all_is_regular() -> None:
    x = chinchilla_points(400)
    y = observed(TRUE_CHINCHILLA, x, 0.003)
    data = rows(TRUE_CHINCHILLA, x, y)
    solution = solve(build(TRUE_CHINCHILLA, data.x, data.y), delta=1e-3, seed=0)
    drawn = draw(solution, data, count=800, seed=0, delta=1e-3).theta.std(axis=0)
    calibration = calibrate(solution, data, 1e-3)
    problem = solution.problem
    sandwich = np.sqrt(np.diag(problem.to_theta @ calibration.covariance @ problem.to_theta.T))
    np.testing.assert_allclose(drawn, sandwich, rtol=0.2)
    profile = intervals(solution, data, delta=1e-3, level=0.95)
    for i, name in enumerate(["E", "A", "alpha", "C", "beta"]):
        low, high = profile[name]
        width = np.log(high / low) if name in "EAC" else high - low
        assert width == pytest.approx(2 * 1.96 * drawn[i], rel=0.3)


def test_score_draws_match_full_draws_on_many_rows() -> None:
    x = chinchilla_points(6000)
    y = observed(TRUE_CHINCHILLA, x, 0.003)
    data = rows(TRUE_CHINCHILLA, x, y)
    solution = solve(build(TRUE_CHINCHILLA, data.x, data.y), delta=1e-3, seed=0)
    quick = draw(solution, data, count=400, seed=0, delta=1e-3)
    full = draw(solution, data, count=100, seed=0, delta=1e-3, kind="case")
    assert (quick.how.kind, full.how.kind) == ("score", "case")
    np.testing.assert_allclose(quick.theta.std(axis=0), full.theta.std(axis=0), rtol=0.3)


def test_few_trunks_resample_residuals_and_many_resample_trunks() -> None:
    x = chinchilla_points(240)
    y = observed(TRUE_CHINCHILLA, x, 0.01)
    for trunks, kind in ((8, "residual"), (60, "case")):
        trunk = [f"t{i % trunks}" for i in range(240)]
        fitted = fit(table(x, y, trunk_id=trunk), FitOptions(law="chinchilla", bootstrap=50))
        assert fitted.certificate.bootstrap.kind == kind
        assert fitted.certificate.bootstrap.clusters == trunks
        assert any("only 8 trunks" in f for f in fitted.flags) == (trunks == 8)


@pytest.mark.parametrize("trunks", [12, 60])
def test_shared_trunk_effects_widens_intervals(trunks: int) -> None:
    """Runs of one trunk err together; taking them as independent would make E several times too sure."""
    x = chinchilla_points(240)
    trunk = np.arange(240) % trunks
    effect = 0.01 * np.random.default_rng(5).standard_normal(trunks)[trunk]
    y = observed(TRUE_CHINCHILLA, x, 0.001) * np.exp(effect)
    names = [f"t{t}" for t in trunk]
    clustered = fit(table(x, y, trunk_id=names), FitOptions(law="chinchilla", bootstrap=200))
    # A level shift common to a trunk is seen in predictions: their spread must know the number of trunks.
    point = Inputs.of(n=1e9, d_total=2e10)
    low, high = clustered.predict_interval(point)
    spread = float(np.log(high / low)[0]) / 3.92
    assert spread > 0.5 * 0.01 / np.sqrt(trunks)


def test_prediction_interval_is_wider_by_the_noise() -> None:
    x = chinchilla_points()
    fitted = fit(table(x, observed(TRUE_CHINCHILLA, x, 0.01)), FitOptions(law="chinchilla", bootstrap=200))
    low, high = fitted.predict_interval(Inputs.of(n=1e9, d_total=2e10), kind="prediction")
    assert np.log(high / low)[0] / 3.92 == pytest.approx(0.01, rel=0.25)


def test_parameters_at_bounds_have_one_sided_profile_intervals() -> None:
    law = TRUE_CHINCHILLA.replace({"E": 1e-12})
    x = chinchilla_points()
    fitted = fit(table(x, observed(law, x, 0.003) - 0.02), FitOptions(law="chinchilla", interval="profile"))
    low, high = fitted.intervals["E"]
    assert low < 1e-5
    assert 1e-4 < high < 0.5
    assert any("E was driven to 0" in f for f in fitted.flags)


def coverage(noise: float, count: int, misspecified: bool = False) -> tuple[int, int]:
    """How often 95 % bootstrap intervals of alpha and of one predicted loss hold the truth."""
    x, point = chinchilla_points(150, seed=3), Inputs.of(n=3e9, d_total=1e11)
    truth, hits, predicted = TRUE_CHINCHILLA, 0, 0
    for k in range(count):
        y = observed(truth, x, noise, seed=100 + k)
        if misspecified:
            y = y * np.exp(0.02 * np.sin(np.log(x.n)))
        data = select(table(x, y), "chinchilla", shape=Chinchilla)
        solution = solve(build(truth, data.x, data.y), delta=1e-3, seed=0, starts=2)
        theta = draw(solution, data, count=79, seed=k, delta=1e-3).theta
        low, high = np.quantile(theta[:, 2], [0.025, 0.975], method="weibull")
        hits += bool(low <= truth.alpha <= high)
        values = predict_many(truth, theta, point)[:, 0]
        low, high = np.quantile(values, [0.025, 0.975], method="weibull")
        predicted += bool(low <= truth.predict(point)[0] <= high)
    return hits, predicted


def test_intervals_cover_as_often_as_they_say() -> None:
    """95 % nominal; a binomial test at 0.1 % would notice 85 %. The benchmark has 500 replications and more laws."""
    for hits in coverage(0.005, 60):
        assert binomtest(hits, 60, 0.95).pvalue > 1e-3


def test_coverage_fails_where_the_law_is_wrong() -> None:
    """The negative control: intervals know nothing about a law that does not hold."""
    hits, _ = coverage(0.0005, 12, misspecified=True)
    assert binomtest(hits, 12, 0.95).pvalue < 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bootstrap": 5}, "at least 39 draws"),
        ({"bootstrap": -1}, "bootstrap is -1"),
        ({"interval": "guess"}, "bootstrap and profile"),
        ({"level": 1.5}, "between 0 and 1"),
        ({"huber": 0.0}, "positive number"),
        ({"n": "all"}, "total and nonembedding"),
        ({"fix": {"zeta": 1.0}}, "no parameter zeta"),
        ({"fix": {"E": -1.0}}, "E is fixed at -1; allowed is 0 to inf"),
        ({"fix": {"alpha": float("nan")}}, "alpha is fixed at nan; allowed is 0 to 3"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    x = chinchilla_points(20)
    with pytest.raises(UsageError, match=message):
        fit(table(x, observed(TRUE_CHINCHILLA, x)), FitOptions(law="chinchilla", **options))  # type: ignore[arg-type]
