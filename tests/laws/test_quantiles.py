"""Quantiles against numpy's, and where draws are infinite."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from qatplan.laws.quantiles import quantiles, quantiles_of_runs


@pytest.mark.parametrize("shape", [(1,), (2, 3), (7,), (40, 2)])
def test_quantiles_are_those_of_numpy(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(2).standard_normal(shape)
    shares = [0.0, 0.025, 0.5, 0.31, 1.0]
    assert quantiles(values, shares) == pytest.approx(np.quantile(values, shares, axis=0, method="weibull"), abs=1e-15)


def test_quantiles_of_infinite_values_are_infinite_and_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    values = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, np.inf], [np.inf, np.inf], [np.inf, np.inf]])
    found = quantiles(values, [0.0, 1 / 3, 5 / 12, 0.5, 0.9, 1.0])
    assert found[:, 0].tolist() == [1, 2, 2.5, 3, np.inf, np.inf]
    assert found[:, 1].tolist() == [1, 2, np.inf, np.inf, np.inf, np.inf]
    assert not recwarn


def test_an_interval_holds_one_more_draw_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    draws, further = rng.standard_normal((99, 20_000)), rng.standard_normal(20_000)
    low, high = quantiles(draws, [0.025, 0.975])
    held = int(np.sum((low <= further) & (further <= high)))
    assert binomtest(held, 20_000, 0.95).pvalue > 1e-4


def test_runs_without_noise_are_the_draws_and_noise_widens_them() -> None:
    losses = np.random.default_rng(7).normal(2.0, 0.1, size=(199, 3))
    bounds = quantiles(losses, [0.025, 0.975])
    assert quantiles_of_runs(losses, 0.0, [0.025, 0.975]) == pytest.approx(bounds, abs=0.01)
    little = quantiles_of_runs(losses, 1e-4, [0.025, 0.975])
    assert np.all(little[0] <= bounds[0])
    assert np.all(little[1] >= bounds[1])
    noisy = quantiles_of_runs(losses, 0.1, [0.025, 0.975])
    width = float(np.mean(noisy[1] - noisy[0]))
    assert width == pytest.approx(2 * 1.96 * np.hypot(0.1, 2.0 * 0.1), rel=0.1)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_runs_about_draws_that_agree_are_log_normal(level: float) -> None:
    shares = [0.5 * (1 - level), 0.5 * (1 + level)]
    for draws in (50, 1000):
        found = quantiles_of_runs(np.full(draws, 2.0), 0.03, shares)
        assert found == pytest.approx(2.0 * np.exp(0.03 * norm.ppf(shares)), rel=1e-5)


def test_runs_are_those_of_a_mixture() -> None:
    losses = np.exp(np.random.default_rng(1).normal(0.0, 0.02, size=(300, 2)))
    low, high = quantiles_of_runs(losses, 0.05, [0.025, 0.975])
    sampled = losses[:, None, :] * np.exp(0.05 * norm.ppf((np.arange(4000) + 0.5) / 4000))[None, :, None]
    expected = np.quantile(sampled.reshape(-1, 2), [0.025, 0.975], axis=0)
    np.testing.assert_allclose([low, high], expected, rtol=1e-4)


def test_runs_of_infinite_losses_are_infinite(recwarn: pytest.WarningsRecorder) -> None:
    losses = np.array([[1.0, np.inf], [1.1, np.inf], [np.inf, np.inf]])
    low, high = quantiles_of_runs(losses, 0.01, [0.1, 0.9])
    assert low.tolist() == [pytest.approx(np.exp(-0.01 * norm.ppf(0.7)), rel=1e-3), np.inf]
    assert high.tolist() == [np.inf, np.inf]
    assert not recwarn
