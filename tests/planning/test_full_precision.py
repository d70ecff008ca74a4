"""The interval on the tokens needed to match full precision."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from support.problems import details, problem

from qatplan.laws import FittedLaw, QatLoss
from qatplan.planning.comparisons import full_precision
from qatplan.planning.intervals import draws_of
from qatplan.planning.objective import Objective
from qatplan.planning.recommend import recommend
from qatplan.planning.solve import solve

Build = Callable[..., FittedLaw]
SIZE = problem(bits=(8.0,), params=1e9, tokens=2e10)


def test_interval_is_that_of_single_solutions(fitted: Build, law: QatLoss) -> None:
    fit = fitted(scatter=0.01)
    assert fit.draws is not None
    fit = dataclasses.replace(fit, draws=fit.draws[:40])
    objective = Objective.of(fit)
    plan = solve(objective, SIZE, 8.0)
    matched = full_precision(objective, plan, draws_of(fit, 0.9))
    interval, never = matched.tokens_interval, matched.never_share
    singles = [
        full_precision(Objective(law=law.from_coordinates(theta)), plan).tokens for theta in fit.draw_coordinates()
    ]
    assert interval is not None
    assert never == np.mean([tokens is None for tokens in singles]) == 0
    expected = np.exp(np.quantile(np.log([tokens for tokens in singles if tokens is not None]), [0.05, 0.95]))
    assert interval == pytest.approx(tuple(expected), rel=0.02)


def test_never_is_said_with_its_share(fitted: Build) -> None:
    advice = recommend(fitted(scatter=0.01), problem(bits=(2.0,), params=1e9, tokens=2e11))
    held = advice.full_precision
    assert held.tokens is None
    assert held.never_share is not None
    assert 0.5 < held.never_share < 1.0
    assert held.tokens_interval is not None
    assert held.tokens_interval[0] > 1e12
    assert held.tokens_interval[1] is None
    assert f"to never; never in {100 * held.never_share:.0f} % of the draws." in details(advice)


def test_without_draws_there_is_no_interval(fitted: Build) -> None:
    held = recommend(fitted(), SIZE).full_precision
    assert held.tokens_interval is held.never_share is None
