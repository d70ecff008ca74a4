"""Random effects of trunks and curves: found, allowed for, recorded; and nothing changes where there are none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.effects import FIX, FREE, sweep
from support.law_examples import EFFECTIVE_TOKENS
from support.simulated import TRUE_CHINCHILLA, chinchilla_points, observed, table

from qatplan.errors import DataError, UsageError
from qatplan.fitting.api import fit
from qatplan.fitting.effects import supported
from qatplan.fitting.loss_law import solve_rows
from qatplan.fitting.options import Choice, FitOptions
from qatplan.fitting.rows import select
from qatplan.fitting.solver.objective import residuals
from qatplan.fitting.solver.solve import solve
from qatplan.fitting.solver.whitening import Whitening
from qatplan.laws import FittedLaw, Inputs
from qatplan.laws.effective_tokens import EffectiveTokens

TRUE = EFFECTIVE_TOKENS.params()
QUICK = FitOptions(law="effective-tokens", fix=FIX, starts=4)


def simulated(count: int, effects: Choice, bootstrap: int = 0, **sizes: float) -> list[FittedLaw]:
    asked = replace(QUICK, effects=effects, bootstrap=bootstrap)
    return [fit(sweep(seed, **sizes), asked) for seed in range(count)]  # type: ignore[arg-type]


SIZES = {"trunk": 0.02, "curve": 0.015, "own": 0.004}


@pytest.fixture(scope="module")
def plain() -> list[FittedLaw]:
    return simulated(4, "none", **SIZES)


@pytest.fixture(scope="module")
def mixed() -> list[FittedLaw]:
    """Fits with effects to the same sweeps."""
    return simulated(4, "curve", 39, **SIZES)


def test_effects_are_found_and_the_split_is_known_better(plain: list[FittedLaw], mixed: list[FittedLaw]) -> None:
    found = [f.certificate.effects for f in mixed]
    assert all(e is not None and e.settled and (e.trunks, e.curves) == (12, 60) for e in found)
    for name, true, within in (("own", 0.004, 0.1), ("curve", 0.015, 0.2), ("trunk", 0.02, 0.3)):
        sd = np.sqrt(np.mean([getattr(e, name) ** 2 for e in found]))
        assert sd == pytest.approx(true, rel=within), name
    for name in ("e0", "r", "omega"):
        miss = {k: np.std([f.params[name] / TRUE[name] - 1 for f in fits]) for k, fits in ((0, plain), (1, mixed))}
        assert miss[1] < 0.5 * miss[0], name
    held = [f.intervals[n][0] <= TRUE[n] <= f.intervals[n][1] for f in mixed for n in FREE]
    assert np.mean(held) >= 0.85


def test_without_effects_in_the_runs_nothing_is_lost() -> None:
    plain, mixed = (simulated(1, e, trunk=0.0, curve=0.0, own=0.005)[0] for e in ("none", "curve"))
    effects = mixed.certificate.effects
    assert effects is not None
    assert effects.curve is not None
    assert max(effects.trunk, effects.curve) < 0.002
    assert effects.own == pytest.approx(0.005, rel=0.1)
    for name in FREE:
        assert mixed.params[name] == pytest.approx(plain.params[name], rel=0.1)


def test_effects_of_size_0_are_the_plain_fit() -> None:
    rows = select(sweep(0, trunk=0.01, curve=0.01, own=0.004), "effective-tokens", shape=EffectiveTokens)
    plain, _ = solve_rows(rows, QUICK)
    none = Whitening(groups=(rows.cluster,), ratios=(0.0,))
    same = solve(replace(plain.problem, whitening=none), delta=QUICK.huber, seed=0, starts=4)
    assert same.objective == pytest.approx(plain.objective, rel=1e-10)
    np.testing.assert_allclose(same.theta(), plain.theta(), rtol=1e-6)


def test_the_order_of_rows_plays_no_part() -> None:
    columns = sweep(3, trunk=0.02, curve=0.01, own=0.004, sizes=3)
    order = np.random.default_rng(0).permutation(len(columns["loss"]))
    other = {k: v[order] if isinstance(v, np.ndarray) else [v[i] for i in order] for k, v in columns.items()}
    one, two = (fit(c, replace(QUICK, effects="curve")) for c in (columns, other))
    assert two.objective == pytest.approx(one.objective, rel=1e-3)
    for name in FREE:
        assert two.params[name] == pytest.approx(one.params[name], rel=1e-2)


def test_what_rows_support() -> None:
    columns = sweep(0, trunk=0.0, curve=0.0, own=0.004)

    def kind(keep: np.ndarray, asked: Choice = "auto") -> str:
        rows = select(columns, "effective-tokens", shape=EffectiveTokens)
        return supported(rows.take(keep), asked)

    every = np.arange(len(columns["loss"]))
    four_curves = every[columns["bits"] == 2][: 4 * 7]
    assert kind(every) == "curve"
    assert kind(every, "trunk") == "trunk"
    assert kind(four_curves) == "trunk"
    assert kind(every[::7]) == "trunk", "one fraction a curve"
    controls = every[np.isnan(columns["bits"])]
    assert kind(controls) == kind(controls, "none") == "none"
    with pytest.raises(DataError, match="no two rows share a trunk"):
        kind(controls, "trunk")
    with pytest.raises(DataError, match="no two rows are of one curve"):
        kind(controls, "curve")


@pytest.mark.parametrize("name", ["qat-loss", "effective", "chinchilla-per-bits", "precision", "chen2025"])
def test_every_loss_law_can_have_effects(name: str) -> None:
    columns = sweep(1, trunk=0.01, curve=0.02, own=0.004, sizes=3)
    fitted = fit(columns, FitOptions(law=name, effects="curve", restrict=True, starts=2, bootstrap=19, level=0.9))
    effects = fitted.certificate.effects
    assert effects is not None
    assert effects.kind == "curve"
    assert np.isfinite(fitted.objective)
    assert fitted.draws is not None
    assert np.isfinite(fitted.draws).all()
    x = Inputs.of(n=5e4, d_total=2e6, bits=4, fraction=0.3)
    low, high = fitted.predict_interval(x)
    assert 0 < low[0] <= fitted.predict(x)[0] <= high[0]


def test_profiles_know_the_effects() -> None:
    asked = replace(QUICK, effects="curve", interval="profile")
    fitted = fit(sweep(0, **SIZES), asked)
    low, high = fitted.intervals["omega"]
    assert low < TRUE["omega"] < high
    assert high - low < 0.25 * TRUE["omega"]


def test_a_fits_file_records_its_effects(plain: list[FittedLaw], mixed: list[FittedLaw]) -> None:
    trunk = fit(sweep(0, **SIZES), replace(QUICK, effects="trunk"))
    for effects, fitted in (("none", plain[0]), ("trunk", trunk), ("curve", mixed[0])):
        written = fitted.to_json()
        assert ("effects" in written["certificate"]) == (effects != "none")
        assert FittedLaw.from_json(written).certificate == fitted.certificate


def test_mistakes_are_one_sentence() -> None:
    with pytest.raises(UsageError, match="effects is 'both'; allowed are none, trunk, curve and auto"):
        FitOptions(effects="both")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="effects has no meaning for law qat-fraction"):
        fit(sweep(0, trunk=0.0, curve=0.0, own=0.004), FitOptions(law="qat-fraction", effects="curve"))
    x = chinchilla_points(50)
    with pytest.raises(DataError, match="no two rows share a trunk"):
        fit(table(x, observed(TRUE_CHINCHILLA, x)), FitOptions(law="chinchilla", effects="trunk"))


def test_residuals_stay_those_of_the_law(mixed: list[FittedLaw]) -> None:
    """What is reported as noise is how single runs scatter about the law, effects included."""
    rows = select(sweep(0, **SIZES), "effective-tokens", shape=EffectiveTokens)
    solution, _ = solve_rows(rows, replace(QUICK, effects="curve"))
    law = solution.problem.law.from_coordinates(solution.theta()).replace(FIX)
    left = residuals(solution.problem, solution.u[None])[0]
    np.testing.assert_allclose(left, np.log(law.predict(rows.x) / rows.y), atol=1e-10)
    assert mixed[0].noise == pytest.approx(0.025, rel=0.4)
