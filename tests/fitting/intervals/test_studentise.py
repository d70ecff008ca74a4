"""Draws at the distance that they have in the scatter of estimates where they lie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.simulated import TRUE_QAT, observed, qat_points, rows

from qatplan.fitting.intervals.studentise import studentised
from qatplan.fitting.intervals.trunk_effects import VarianceComponents
from qatplan.fitting.rows import Rows
from qatplan.fitting.solver.problem import Problem, build
from qatplan.laws import Chinchilla, FittedLaw, Inputs
from qatplan.laws.law import predict_many

OWN, TRUNKS = 0.003, 6


def problem() -> tuple[Problem, Rows]:
    x = qat_points(120)
    data = rows(TRUE_QAT, x, observed(TRUE_QAT, x))
    data = replace(data, cluster=np.arange(len(data)) % TRUNKS, clustered=True)
    return build(TRUE_QAT, data.x, data.y), data


def parts(count: int, effect: float) -> VarianceComponents:
    own = OWN * np.random.default_rng(5).standard_normal(count)
    own[0] = np.nan
    return VarianceComponents(own=own, trunk_effect=effect, freedom=5.0, visible=np.eye(TRUNKS))


def numeric_slopes(made: Problem, x: Inputs, u: np.ndarray) -> np.ndarray:
    """The Jacobian by central differences of the law itself."""
    h = 1e-5 * np.eye(made.size)
    high, low = (np.log(predict_many(TRUE_QAT, made.theta(u + sign * h), x)) for sign in (1, -1))
    return (high - low).T / 2e-5


@pytest.mark.parametrize("effect", [0.0, 0.004])
def test_a_draw_moves_by_the_ratio_of_its_distances_in_both_scatters(effect: float) -> None:
    made, data = problem()
    apart = parts(len(data), effect)
    u = made.scaled(TRUE_QAT.coordinates())
    drawn = u + 0.02 * np.random.default_rng(1).standard_normal((25, made.size))
    moved = studentised(made, data, apart, u, drawn)

    member = np.eye(TRUNKS)[data.cluster]
    errors = np.nanmean(apart.own**2) * np.eye(len(data)) + effect**2 * member @ member.T

    def length(step: np.ndarray, at: np.ndarray) -> float:
        estimator = np.linalg.pinv(numeric_slopes(made, data.x, at))
        return float(np.sqrt(step @ np.linalg.inv(estimator @ errors @ estimator.T) @ step))

    ratios = np.array([length(d - u, d) / length(d - u, u) for d in drawn])
    assert np.ptp(ratios) > 0.05, "the law bends here"
    start, before, after = (np.log(predict_many(TRUE_QAT, made.theta(at), data.x)) for at in (u[None, :], drawn, moved))
    expected = (before - start) * (ratios / ratios.mean())[:, None]
    error = np.linalg.norm(after - start - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert error.max() < 2e-3, "in fitted log losses"


def test_nothing_moves_where_predictions_are_linear() -> None:
    law = Chinchilla.published()
    x = Inputs.of(n=np.full(30, 1e8), d_total=np.geomspace(1e9, 1e11, 30))
    data = rows(law, x, law.predict(x))
    made = build(law, data.x, data.y, fixed={"E": -np.inf, "A": -np.inf, "alpha": 0.3})
    u = np.array([1.0, 0.4])
    drawn = u + 0.1 * np.random.default_rng(0).standard_normal((40, 2))
    np.testing.assert_allclose(studentised(made, data, parts(len(data), 0.0), u, drawn), drawn, rtol=1e-9)


def test_a_draw_at_the_estimate_stays_and_none_leaves_the_bounds_or_the_losses_that_can_be_fitted() -> None:
    made, data = problem()
    u = made.scaled(TRUE_QAT.coordinates())
    drawn = np.clip(u + 2.0 * np.random.default_rng(2).standard_normal((60, made.size)), made.lower, made.upper)
    drawn[0] = u
    moved = studentised(made, data, parts(len(data), 0.0), u, drawn)
    assert np.array_equal(moved[0], u)
    assert np.all((moved >= made.lower) & (moved <= made.upper))
    start, before, after = (np.log(predict_many(TRUE_QAT, made.theta(at), data.x)) for at in (u[None, :], drawn, moved))
    way = np.linalg.norm(after[1:] - start, axis=1) / np.linalg.norm(before[1:] - start, axis=1)
    # A factor of at most two over a mean of at least a half; and least squares come at least as near as the draw was.
    assert np.all(way < 4 + 3)
    assert np.isfinite(moved).all()


def test_draws_of_the_shipped_law_predict_runs_like_those_that_were_fitted() -> None:
    """Its E and rho lie in valleys that run to 0; halfway there in a straight line losses are off by a factor of 2."""
    fitted = FittedLaw.read(Path(__file__).parents[3] / "fits" / "qat-loss.json")
    points = Inputs.of(n=[5e4, 1.2e5, 2.5e5], d_total=[4e6, 4e6, 4e6], bits=[4, 2, 3], fraction=[0.3, 0.3, 0.4])
    losses = predict_many(fitted.law, fitted.draw_coordinates(), points) / fitted.predict(points)
    assert np.abs(np.log(losses)).max() < 0.3
    assert np.abs(np.log(np.quantile(losses, [0.025, 0.975], axis=0))).max() < 0.06
