"""A law with its draws: one place that turns draws into intervals."""

from __future__ import annotations

import numpy as np
import pytest
from support.law_examples import POINTS, QAT

from qatplan.errors import UsageError
from qatplan.laws import Chinchilla, FittedLaw, Inputs, QatFraction
from qatplan.laws.predictor import Predictor, fitted_curve

DRAWS = QAT.coordinates() * (1 + 0.01 * np.random.default_rng(0).standard_normal((60, 16)))
DRAWN = Predictor(law=QAT, draws=DRAWS, level=0.9)
AT = {"n": [1e8, 1e9], "d_total": 2e10, "bits": 4.0}


def test_bands_are_the_central_share_of_the_draws() -> None:
    band = DRAWN.loss(POINTS)
    assert band.low is not None
    assert band.high is not None
    each = np.array([QAT.from_coordinates(theta).predict(POINTS) for theta in DRAWS])
    np.testing.assert_allclose(band.low, np.quantile(each, 0.05, axis=0, method="weibull"))
    np.testing.assert_allclose(band.high, np.quantile(each, 0.95, axis=0, method="weibull"))
    assert (band.low < band.value).all()
    assert DRAWN.caption == "Lines: fitted law qat-loss; bands: central 90% of 60 draws."


def test_without_draws_there_is_no_band() -> None:
    alone = Predictor(law=QAT)
    assert alone.loss(POINTS).low is None
    best, band = alone.optimum(**AT)
    assert band.high is None
    np.testing.assert_array_equal(band.value, best.fraction)
    assert alone.caption == "Lines: fitted law qat-loss."
    with pytest.raises(UsageError, match="no bootstrap draws"):
        alone.drawn(POINTS)
    assert FittedLaw(law=QAT, draws=np.zeros((0, 16))).predictor().draws is None


def test_optimal_fractions_have_intervals_of_the_draws_own_optima() -> None:
    best, band = DRAWN.optimum(**AT)
    assert band.low is not None
    assert band.high is not None
    assert ((band.low < best.fraction) & (best.fraction < band.high)).all()


def test_a_singular_point_has_no_value() -> None:
    band = DRAWN.loss(Inputs.of(n=1e9, d_total=2e10, bits=4, fraction=[0.0, 0.5]))
    assert band.low is not None
    assert np.isnan(band.value[0])
    assert np.isnan(band.low[0])
    assert np.isfinite(band.low[1])


def test_a_fraction_law_gives_no_loss() -> None:
    with pytest.raises(UsageError, match="predicts a QAT fraction and no loss"):
        Predictor(law=QatFraction()).loss(POINTS)


def test_a_curve_knows_its_optimum_where_there_is_one() -> None:
    fractions = np.linspace(0.05, 0.9, 9)
    curve = fitted_curve(DRAWN, 1e9, 2e10, 4.0, fractions)
    assert curve.optimum is not None
    assert curve.optimum_loss is not None
    assert curve.optimum_loss <= curve.loss.value.min()
    flat = fitted_curve(Predictor(law=Chinchilla.published()), 1e9, 2e10, 4.0, fractions)
    assert flat.optimum is None
    falling = fitted_curve(Predictor(law=QAT.replace({"lam": 0.0})), 1e9, 2e10, 4.0, fractions)
    assert falling.optimum is None
