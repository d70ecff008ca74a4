"""Few trunks: what their effects leaves open is in the intervals and in the words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from support.simulated import TRUE_CHINCHILLA, chinchilla_points, observed, table

from qatplan.errors import UsageError
from qatplan.fitting.api import fit
from qatplan.fitting.identifiability import _correlation
from qatplan.fitting.options import FitOptions
from qatplan.laws import FittedLaw, Inputs

SIZES, BUDGETS = 6, 8
FITS = Path(__file__).parents[3] / "fits"


def one_trunk_for_each_size(effect: float, own: float, seed: int) -> dict[str, object]:
    """Six sizes over two and a half decades, eight budgets of each; runs of one size share their trunk's effect."""
    rng = np.random.default_rng([seed, 3])
    size = np.repeat(np.arange(SIZES), BUDGETS)
    x = Inputs.of(n=np.geomspace(5e7, 1.6e10, SIZES)[size], d_total=np.tile(np.geomspace(1e9, 1e12, BUDGETS), SIZES))
    errors = effect * rng.standard_normal(SIZES)[size] + own * rng.standard_normal(len(x))
    return table(x, TRUE_CHINCHILLA.predict(x) * np.exp(errors), trunk_id=[f"trunk {i}" for i in size])


def test_profile_intervals_know_the_effects_of_few_trunks() -> None:
    """Taken as independent, these 48 runs give intervals of alpha that hold the truth once in three times."""
    held = {"E": 0, "alpha": 0, "beta": 0}
    for seed in range(30):
        columns = one_trunk_for_each_size(effect=0.003, own=0.002, seed=seed)
        fitted = fit(columns, FitOptions(law="chinchilla", interval="profile", bootstrap=0))
        assert any("only 6 trunks" in flag for flag in fitted.flags)
        for name in held:
            low, high = fitted.intervals[name]
            held[name] += bool(low <= TRUE_CHINCHILLA.params()[name] <= high)
    assert all(binomtest(count, 30, 0.95).pvalue > 1e-3 for count in held.values()), held


def test_profile_and_bootstrap_agree_about_effects() -> None:
    columns = one_trunk_for_each_size(effect=0.003, own=0.002, seed=1)
    profile = fit(columns, FitOptions(law="chinchilla", interval="profile", bootstrap=0)).intervals
    bootstrap = fit(columns, FitOptions(law="chinchilla", bootstrap=400)).intervals
    for name in ("E", "alpha"):
        assert np.diff(profile[name])[0] == pytest.approx(np.diff(bootstrap[name])[0], rel=0.35)


def test_draws_of_many_runs_from_few_trunks_know_their_effects() -> None:
    """Drawn as whole trunks, the twelve of them would scatter half as much."""
    x = chinchilla_points(6000)
    trunk = np.argsort(np.argsort(x.n)) // 500
    y = observed(TRUE_CHINCHILLA, x, 0.003) * np.exp(0.004 * np.random.default_rng(0).standard_normal(12)[trunk])
    columns = table(x, y, trunk_id=[f"trunk {i}" for i in trunk])
    fitted = fit(columns, FitOptions(law="chinchilla", bootstrap=300))
    refitted = fit(columns, FitOptions(law="chinchilla", bootstrap=100, resample="residual"))
    assert fitted.certificate.bootstrap.kind == "score"
    assert any("only 12 trunks: intervals hold" in flag for flag in fitted.flags)
    spread, wanted = (f.draw_coordinates().std(axis=0) for f in (fitted, refitted))
    np.testing.assert_allclose(spread, wanted, rtol=0.3)


def test_what_only_intervals_show_to_be_open_is_said() -> None:
    """A line through the estimate shows E within some per cent; along the valley of trunk effects it runs to 0."""
    columns = one_trunk_for_each_size(effect=0.03, own=0.001, seed=0)
    drawn = fit(columns, FitOptions(law="chinchilla", bootstrap=99))
    profile = fit(columns, FitOptions(law="chinchilla", interval="profile", bootstrap=0))
    for made in (drawn, profile):
        low, high = made.intervals["E"]
        assert high / low > 4
        assert any(s.startswith("E is not determined") for s in made.identifiability)
    quiet = fit(one_trunk_for_each_size(effect=0.0, own=0.001, seed=0), FitOptions(law="chinchilla", bootstrap=99))
    assert quiet.identifiability == ()


@pytest.mark.parametrize("name", ["qat-loss", "chinchilla"])
def test_words_of_shipped_fits_agree_with_their_intervals(name: str) -> None:
    fitted = FittedLaw.read(FITS / f"{name}.json")
    open_ones = {s.split()[0] for s in fitted.identifiability if "determined" in s}
    wide = set()
    for parameter in fitted.law.parameters():
        if parameter.name not in fitted.intervals or parameter.name in fitted.certificate.parameters_at_bounds:
            continue
        low, high = fitted.intervals[parameter.name]
        too_wide = parameter.coordinate == "linear" and high - low > np.ptp(parameter.start)
        if too_wide or (parameter.name == "E" and np.log(high / low) > 1.0):
            wide.add(parameter.name)
    assert "E" in wide
    assert open_ones == wide


def test_effects_that_does_not_show_is_said_to_be_left_out() -> None:
    """Of three trunks two numbers of the law follow the effects of all: nothing is left to infer it from."""
    columns = one_trunk_for_each_size(effect=0.003, own=0.002, seed=0)
    few = {name: np.asarray(value)[: 3 * BUDGETS] for name, value in columns.items()}
    fitted = fit(few, FitOptions(law="chinchilla", interval="profile", bootstrap=0))
    assert any("only 3 trunks, whose effect does not show" in flag for flag in fitted.flags)


@pytest.mark.parametrize(("level", "least"), [(0.9, 19), (0.95, 39), (0.99, 199)])
def test_too_few_draws_for_an_interval_are_refused(level: float, least: int) -> None:
    columns = one_trunk_for_each_size(effect=0.0, own=0.002, seed=0)
    with pytest.raises(UsageError, match=f"takes at least {least} draws"):
        fit(columns, FitOptions(law="chinchilla", bootstrap=least - 1, level=level))
    assert fit(columns, FitOptions(law="chinchilla", bootstrap=least, level=level)).draws is not None


def test_draws_that_lie_at_their_bounds_do_not_seem_to_trade_off() -> None:
    rng = np.random.default_rng(0)
    draws = np.maximum(rng.standard_normal((400, 2)) - 1.6, 0.0)
    assert abs(_correlation(draws)[0, 1]) < 0.2
    with_constant = np.column_stack([draws, np.full(400, 3.0)])
    assert _correlation(with_constant)[2].tolist() == [0.0, 0.0, 0.0]
