"""Measured optima and the fraction law refitted from them."""

from __future__ import annotations

import numpy as np
import pytest
from support.simulated import TRUE_QAT, table

from qatplan.errors import DataError, UsageError
from qatplan.fitting.api import fit
from qatplan.fitting.curves import curves, minima
from qatplan.fitting.fraction_law import fit_fraction
from qatplan.fitting.options import FitOptions
from qatplan.fitting.rows import select
from qatplan.laws import FittedLaw, Inputs, QatFraction, optimal_fraction
from qatplan.laws.fit_parts import FractionDiagnostics
from qatplan.laws.flags import Flag

FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 0.95)


def curve_table(noise: float = 0.0, fractions: tuple[float, ...] = FRACTIONS, shift: float = 0.0):  # type: ignore[no-untyped-def]
    """Curves of a loss that is smallest exactly at the published fraction law, plus `shift` in log-odds."""
    rng = np.random.default_rng(0)
    points = [(n, s, b, f) for n in (1e8, 1e9) for s in (30, 300, 3000) for b in (2, 4) for f in fractions]
    n, s, bits, f = (np.array(c, dtype=float) for c in zip(*points, strict=True))
    best = QatFraction().fraction(s)
    u = np.log(f / (1 - f)) - np.log(best / (1 - best)) - shift
    loss = (3 + 0.01 * (np.cosh(0.6 * u) + 0.1 * np.sinh(0.6 * u) - 0.06 * u)) * np.exp(
        noise * rng.standard_normal(len(u))
    )
    x = Inputs.of(n=n, d_total=s * n * bits / 8, fraction=f, bits=bits)
    return table(x, loss, seed=np.zeros(len(x)))


def measured(fitted: FittedLaw) -> FractionDiagnostics:
    assert isinstance(fitted.diagnostics, FractionDiagnostics)
    return fitted.diagnostics


def test_optima_are_interpolated_not_snapped() -> None:
    fitted = fit_fraction(curve_table(), FitOptions(), loss_law=False)
    assert fitted.params["a"] == pytest.approx(6.7297, rel=0.02)
    assert measured(fitted).mae < 0.004
    for curve in measured(fitted).curves:
        assert curve.optimum == pytest.approx(curve.published_law, abs=0.012)


def test_noise_widens_the_interval_which_holds_the_truth() -> None:
    fitted = fit(curve_table(noise=3e-4), FitOptions(law="qat-fraction", bootstrap=80), loss_law=False)
    low, high = fitted.intervals["a"]
    assert low < 6.7297 < high
    assert high - low > 0.05
    assert fitted.draws is not None
    assert fitted.draws.shape == (80, 1)


def test_minima_at_an_end_are_said_and_not_fitted() -> None:
    fitted = fit_fraction(curve_table(fractions=(0.3, 0.4, 0.5, 0.7, 0.85, 0.95)), FitOptions(), loss_law=False)
    notes = [c.note for c in measured(fitted).curves if c.note]
    assert any("smallest at the smallest fraction measured" in n for n in notes)
    assert any("minimum at an end" in f for f in fitted.flags)
    with pytest.raises(DataError, match="inner minimum"):
        fit_fraction(curve_table(fractions=(0.8, 0.85, 0.9, 0.93, 0.95)), FitOptions(), loss_law=False)


def test_short_curves_are_said() -> None:
    with pytest.raises(DataError, match="at least 5 make a curve"):
        fit_fraction(curve_table(fractions=(0.05, 0.2, 0.5)), FitOptions(), loss_law=False)


@pytest.mark.parametrize(
    "option",
    [{"holdout": "largest-n"}, {"interval": "profile"}, {"restrict": True}, {"huber": 0.01}, {"keep_tuning": True}],
)
def test_options_of_loss_laws_are_refused_not_ignored(option: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(option)).replace('_', '-')} has no meaning for law qat-fraction"):
        fit(curve_table(), FitOptions(law="qat-fraction", **option))  # type: ignore[arg-type]


def test_a_loss_law_that_fails_its_certificate_is_said() -> None:
    """Without full precision, at two bit widths that share their optima: the loss law is not determined."""
    fitted = fit_fraction(curve_table(noise=3e-4), FitOptions())
    loss_law = measured(fitted).loss_law
    assert loss_law is not None
    assert loss_law.status != "good"
    assert any("fails its certificate" in f for f in fitted.flags)


def test_what_is_held_is_the_loss_laws() -> None:
    with pytest.raises(UsageError, match="a is no parameter of qat-loss"):
        fit(curve_table(), FitOptions(law="qat-fraction", fix={"a": 3.0}))


def test_growth_with_s_total_is_reported() -> None:
    fitted = fit_fraction(curve_table(), FitOptions(), loss_law=False)
    assert any("grows with S_total" in f for f in fitted.flags)


def test_envelope_of_learning_rates_is_taken_and_said() -> None:
    columns = curve_table()
    count = len(columns["loss"])
    doubled = {
        k: np.concatenate([v, v]) for k, v in columns.items() if k in ("n_total", "d_fp", "d_qat", "bits", "seed")
    }
    worse = columns["loss"] * np.where(np.arange(count) % 2, 1.05, 1.01)
    doubled["loss"] = np.concatenate([columns["loss"], worse])
    doubled["qat_learning_rate"] = np.repeat([1.0, 0.3], count)
    fitted = fit_fraction(doubled, FitOptions(), loss_law=False)
    assert fitted.params["a"] == pytest.approx(
        fit_fraction(columns, FitOptions(), loss_law=False).params["a"], rel=1e-9
    )
    assert any("lower envelope" in f for f in fitted.flags)


def test_seeds_make_their_own_curves() -> None:
    columns = curve_table()
    both = {k: np.concatenate([v, v]) for k, v in columns.items()}
    both["seed"] = np.repeat([0.0, 1.0], len(columns["loss"]))
    found = curves(select(both, "qat-fraction", shape=QatFraction))
    assert len(found) == 24
    assert {len(c.fraction) for c in found} == {len(FRACTIONS)}


def test_draws_of_an_optimum_scatter_as_repeated_measurements_do() -> None:
    """The artificial curves' spread against the spread of optima over really repeated noise."""
    x = Inputs.of(n=1e8, d_total=2e10, bits=2, fraction=FRACTIONS)
    truth = TRUE_QAT.predict(x)
    repeated, spreads = [], []
    for k in range(60):
        y = truth * np.exp(5e-4 * np.random.default_rng(k).standard_normal(len(x)))
        found = minima(curves(select(table(x, y), "qat-fraction", shape=QatFraction)), draws=200, seed=k)[0]
        if found.none is None:
            repeated.append(found.fraction)
            spreads.append(found.deviation())
    best = optimal_fraction(TRUE_QAT, n=1e8, d_total=2e10, bits=2).fraction[0]
    assert np.mean(repeated) == pytest.approx(best, abs=0.05)
    assert np.sqrt(np.mean(np.square(spreads))) == pytest.approx(np.std(repeated), rel=0.5)


def test_loss_law_optima_are_compared() -> None:
    rng = np.random.default_rng(2)
    points = [(n, r * n, b, f) for n in (1e8, 3e8, 1e9) for r in (20, 80, 320) for b in (1, 2, 4) for f in FRACTIONS]
    n, d, b, f = (np.array(c, dtype=float) for c in zip(*points, strict=True))
    fp = Inputs.of(n=np.repeat([1e8, 3e8, 1e9], 3), d_total=np.tile([20, 80, 320], 3) * np.repeat([1e8, 3e8, 1e9], 3))
    x = Inputs.of(n=n, d_total=d, bits=b, fraction=f)
    both = Inputs.of(
        n=np.r_[x.n, fp.n], d_fp=np.r_[x.d_fp, fp.d_fp], d_qat=np.r_[x.d_qat, fp.d_qat], bits=np.r_[x.bits, fp.bits]
    )
    y = TRUE_QAT.predict(both) * np.exp(1e-4 * rng.standard_normal(len(both)))
    fitted = fit_fraction(table(both, y), FitOptions())
    loss_law = measured(fitted).loss_law
    assert loss_law is not None
    assert loss_law.mae < 0.05
    assert loss_law.status == "good"


def test_optima_that_no_curve_of_s_total_describes_are_flagged() -> None:
    """The optimum falls with S_total, and far more at 2 bits than at 4; a fixed law that fails is told, not hidden."""
    fractions = np.array([0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95])
    points = [(s, b, f) for s in (30.0, 100.0, 300.0, 1000.0) for b in (2.0, 4.0) for f in fractions]
    s, b, f = (np.array(c) for c in zip(*points, strict=True))
    best = np.where(b == 2, 0.8, 0.25) - 0.04 * np.log(s / 30)
    u = np.log(f / (1 - f)) - np.log(best / (1 - best))
    x = Inputs.of(n=1e8, d_total=s * 1e8 * b / 8, fraction=f, bits=b)
    fitted = fit_fraction(table(x, 3 + 0.01 * np.cosh(0.6 * u)), FitOptions(fix={"kappa": 99.0}))
    told = {Flag.of(flag) for flag in fitted.flags}
    assert {Flag.TREND, Flag.BITS_DIFFER, Flag.MISSES, Flag.LOSS_LAW_MISSING} <= told
    assert any("falls with S_total" in flag for flag in fitted.flags)
    assert measured(fitted).loss_law is None
    assert FittedLaw.from_json(fitted.to_json()).to_json() == fitted.to_json()
    with pytest.raises(DataError, match="no row can be used to fit qat-fraction"):
        fit_fraction(table(x.take(x.bits == 9), np.zeros(0)), FitOptions(), loss_law=False)
