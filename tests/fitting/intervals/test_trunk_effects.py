"""Luck of trunks and own noise: told apart in simulations of known truth, and drawn as what each is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest, kurtosis
from support.simulated import TRUE_CHINCHILLA, observed, rows, table

from qatplan.fitting.intervals.bootstrap import draw
from qatplan.fitting.intervals.trunk_effects import _pools, noise_like, variance_components
from qatplan.fitting.rows import Rows, select
from qatplan.fitting.solver.problem import build
from qatplan.fitting.solver.solve import solve
from qatplan.laws import Chinchilla, Inputs

OWN, EFFECT = 0.001, 0.003
SIZES, SEEDS, BUDGETS = 5, 2, 8
TRUNKS = SIZES * SEEDS


def design() -> tuple[Inputs, np.ndarray]:
    """Five sizes, two trunks of each, eight budgets; and the trunk of each run."""
    size, seed, budget = (part.ravel() for part in np.indices((SIZES, SEEDS, BUDGETS)))
    n = np.geomspace(1e8, 1e10, SIZES)[size]
    return Inputs.of(n=n, d_total=n * np.geomspace(5, 500, BUDGETS)[budget]), size * SEEDS + seed


def sweep() -> tuple[Rows, np.ndarray]:
    """Rows of the design without noise, and slopes of a law that has a constant, a size and a token term."""
    x, trunk = design()
    data = select(
        table(x, TRUE_CHINCHILLA.predict(x), trunk_id=[f"t{t}" for t in trunk]), "chinchilla", shape=Chinchilla
    )
    return data, np.column_stack([np.ones(len(x)), np.log(x.n), np.log(x.d_total)])


def test_own_noise_and_effects_have_the_size_they_were_simulated_with() -> None:
    data, slopes = sweep()
    basis = np.linalg.qr(slopes)[0]
    own, effect = [], []
    for k in range(400):
        rng = np.random.default_rng(k)
        noise = OWN * rng.standard_normal(len(data)) + EFFECT * rng.standard_normal(TRUNKS)[data.cluster]
        components = variance_components(noise - basis @ (basis.T @ noise), data, slopes)
        own.append(np.mean(components.own**2))
        effect.append(components.trunk_effect**2)
    for found, truth in ((own, OWN), (effect, EFFECT)):
        error = np.std(found) / np.sqrt(len(found))
        assert abs(np.mean(found) - truth**2) < 4 * error
        assert error < 0.05 * truth**2


def test_degrees_of_freedom_are_those_that_the_estimate_scatters_with() -> None:
    """The variance of a scaled chi square is 2 / freedom of its squared mean; own noise adds next to nothing here."""
    data, slopes = sweep()
    found, freedom = [], 0.0
    for k in range(600):
        rng = np.random.default_rng(k)
        noise = rng.standard_normal(TRUNKS)[data.cluster] + 1e-4 * rng.standard_normal(len(data))
        components = variance_components(noise, data, slopes)
        found.append(components.trunk_effect**2)
        freedom = components.freedom
    # Constant and size are absorbed; the token term is told within trunks.
    assert freedom == pytest.approx(TRUNKS - 2, abs=0.2)
    assert 2 * np.mean(found) ** 2 / np.var(found) == pytest.approx(freedom, rel=0.15)


def test_a_pattern_of_effects_that_the_law_can_follow_is_absorbed_and_others_are_visible() -> None:
    data, slopes = sweep()
    noise = np.random.default_rng(0).standard_normal(TRUNKS)[data.cluster]
    components = variance_components(noise + OWN * np.random.default_rng(1).standard_normal(len(data)), data, slopes)
    size = np.log(data.x.n[np.unique(data.cluster, return_index=True)[1]])
    np.testing.assert_allclose(components.visible @ np.ones(TRUNKS), 0, atol=0.02)
    np.testing.assert_allclose(components.visible @ (size - size.mean()), 0, atol=0.02 * np.ptp(size))
    difference = np.zeros(TRUNKS)
    difference[:2] = 1, -1
    np.testing.assert_allclose(components.visible @ difference, difference, atol=0.02)


def test_runs_without_a_common_trunk_have_own_noise_alone() -> None:
    data, slopes = sweep()
    alone = replace(data, cluster=np.arange(len(data)), clustered=False)
    components = variance_components(OWN * np.random.default_rng(0).standard_normal(len(data)), alone, slopes)
    assert components.trunk_effect == 0
    assert np.std(components.own) == pytest.approx(OWN, rel=0.2)
    assert np.std(noise_like(components, alone, 500, np.random.default_rng(0))) == pytest.approx(
        np.std(components.own), rel=0.02
    )


def test_residuals_of_rows_that_the_fit_follows_are_brought_back_to_the_size_of_their_errors() -> None:
    data, slopes = sweep()
    alone = replace(data, cluster=np.arange(len(data)), clustered=False)
    followed, lost = np.zeros(len(data)), np.zeros(len(data))
    followed[:2], lost[5] = (1, 0.6), 1
    basis = np.linalg.qr(np.column_stack([slopes, followed, lost]))[0]
    squares = np.zeros(len(data))
    for k in range(1000):
        error = OWN * np.random.default_rng(k).standard_normal(len(data))
        squares += variance_components(error - basis @ (basis.T @ error), alone, basis).own ** 2 / 1000
    assert np.isnan(squares[5])
    squares = np.delete(squares, 5)
    # 80 chi squares of 1000 degrees of freedom; uncorrected, the first would be 0.28 of the errors' variance.
    np.testing.assert_allclose(squares / OWN**2, 1, atol=0.2)
    drawn = noise_like(variance_components(error, alone, basis), alone, 100, np.random.default_rng(0))
    assert np.all(np.isfinite(drawn))


def test_drawn_noise_is_shared_by_the_runs_of_a_trunk_and_absorbed_effects_alone_has_heavy_tails() -> None:
    data, slopes = sweep()
    rng = np.random.default_rng(3)
    components = variance_components(
        OWN * rng.standard_normal(len(data)) + EFFECT * rng.standard_normal(TRUNKS)[data.cluster], data, slopes
    )
    noise = noise_like(components, data, 20_000, rng)
    trunk = np.stack([noise[:, data.cluster == t].mean(axis=1) for t in range(TRUNKS)], axis=1)
    seen = trunk @ np.array([1, -1, *np.zeros(TRUNKS - 2)]) / np.sqrt(2)
    absorbed = trunk @ np.ones(TRUNKS) / np.sqrt(TRUNKS)
    own = components.own.var() / BUDGETS
    assert np.var(seen) == pytest.approx(components.trunk_effect**2 + own, rel=0.05)
    # The variance of a t distribution is freedom / (freedom - 2).
    stretched = components.trunk_effect**2 * components.freedom / (components.freedom - 2)
    assert np.var(absorbed) == pytest.approx(stretched + own, rel=0.1)
    assert abs(kurtosis(seen)) < 0.2
    assert kurtosis(absorbed) > 0.6
    within = noise - trunk[:, data.cluster]
    assert np.var(within) == pytest.approx(components.own.var() * (1 - 1 / BUDGETS), rel=0.05)


def test_the_mean_of_a_pool_of_residuals_is_no_noise_that_its_runs_share() -> None:
    data, slopes = sweep()
    alone = replace(data, cluster=np.arange(len(data)), clustered=False)
    components = replace(
        variance_components(OWN * np.random.default_rng(0).standard_normal(len(data)), alone, slopes), trunk_effect=0.0
    )
    components = replace(components, own=components.own + OWN)
    mean = noise_like(components, alone, 20_000, np.random.default_rng(1)).mean(axis=1)
    assert np.mean(mean) == pytest.approx(0, abs=0.01 * OWN)
    assert np.var(mean) == pytest.approx(np.mean(components.own**2) / len(data), rel=0.05)


def test_few_rows_for_each_parameter_are_not_drawn_but_their_residuals_are() -> None:
    x, _ = design()
    y = observed(TRUE_CHINCHILLA, x)
    many = Inputs.of(n=np.tile(x.n, 2), d_total=np.tile(x.d_total, 2))
    for points, kind in ((x, "residual"), (many, "case")):
        data = rows(TRUE_CHINCHILLA, points, np.tile(y, len(points) // len(x)))
        solution = solve(build(TRUE_CHINCHILLA, data.x, data.y), delta=1e-3, seed=0)
        assert draw(solution, data, count=20, seed=0, delta=1e-3).how.kind == kind


def test_intervals_cover_with_few_trunks_whether_told_between_or_within_them() -> None:
    """alpha follows the effects of trunks, beta is told within them; a binomial test at 0.1 % would notice 80 %."""
    x, trunk = design()
    names = [f"t{t}" for t in trunk]
    hits = np.zeros(2, dtype=int)
    for k in range(60):
        effect = EFFECT * np.random.default_rng([k, 4]).standard_normal(TRUNKS)[trunk]
        y = observed(TRUE_CHINCHILLA, x, OWN, seed=k) * np.exp(effect)
        data = select(table(x, y, trunk_id=names), "chinchilla", shape=Chinchilla)
        solution = solve(build(TRUE_CHINCHILLA, data.x, data.y), delta=1e-3, seed=0, starts=2)
        theta = draw(solution, data, count=200, seed=k, delta=1e-3).theta[:, [2, 4]]
        low, high = np.quantile(theta, [0.025, 0.975], axis=0, method="weibull")
        truth = np.array([TRUE_CHINCHILLA.alpha, TRUE_CHINCHILLA.beta])
        hits += (low <= truth) & (truth <= high)
    for count in hits:
        assert binomtest(int(count), 60, 0.95).pvalue > 1e-3


def test_too_few_trunks_or_rows_show_no_effect() -> None:
    data, slopes = sweep()
    error = OWN * np.random.default_rng(0).standard_normal(len(data))
    one = replace(data, cluster=np.zeros(len(data), dtype=np.intp))
    assert variance_components(error, one, slopes).trunk_effect == 0
    full = np.random.default_rng(1).standard_normal((len(data), len(data)))
    exact = variance_components(error, data, full)
    assert exact.trunk_effect == 0
    np.testing.assert_allclose(exact.own, 0.0, atol=1e-12)


def test_bit_widths_with_few_rows_share_a_pool() -> None:
    sizes = [len(pool) for pool in _pools(np.repeat([np.nan, 2.0, 3.0, 4.0], [20, 9, 8, 16]))]
    assert sorted(sizes) == [16, 17, 20]
    assert sorted(len(pool) for pool in _pools(np.repeat([2.0, 3.0, 4.0], [20, 16, 4]))) == [20, 20]
    assert [len(pool) for pool in _pools(np.repeat([2.0, 3.0], [4, 4]))] == [8]
    assert [len(pool) for pool in _pools(np.repeat([2.0, 3.0], [20, 16]))] == [20, 16]
