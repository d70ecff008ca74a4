"""The optimal fraction: against brute force, at the ends, over draws."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from support.law_examples import QAT

from qatplan.errors import UsageError
from qatplan.laws import Chinchilla, Inputs, QatFraction, QatLoss, get, optimal_fraction
from qatplan.laws.law import predict_rows


@pytest.mark.parametrize("bits", [1.0, 2.0, 4.0, 6.0])
@pytest.mark.parametrize("d_total", [1e9, 1e11, 1e13])
def test_agrees_with_an_independent_minimiser(bits: float, d_total: float) -> None:
    def loss(logit: float) -> float:
        fraction = 1 / (1 + np.exp(-logit))
        return float(QAT.predict(Inputs.of(n=1e9, d_total=d_total, bits=bits, fraction=fraction))[0])

    best = minimize_scalar(loss, bounds=(-12, 12), method="bounded", options={"xatol": 1e-10})
    found = optimal_fraction(QAT, n=1e9, d_total=d_total, bits=bits)
    assert found.interior.all()
    assert found.fraction[0] == pytest.approx(1 / (1 + np.exp(-best.x)), abs=1e-6)
    assert found.loss[0] <= best.fun + 1e-14


def test_derivative_vanishes_to_nine_digits() -> None:
    """Just omega and xi: f/(1-f)^(1+xi)... has no closed form, but its stationarity condition is exact."""
    law = dataclasses.replace(QAT, rho=0.0, mu=0.5, nu=0.1)
    found = optimal_fraction(law, n=1e9, d_total=1e11, bits=4)
    f = found.fraction[0]
    s = 1e11 / (1e9 * 4 / 8)
    penalty = law.phi * 2 ** (-law.chi * 4) / (1e9**law.psi * s**law.omega)
    both = law.lam * 2 ** (-law.mu * 4) / (1e9**law.nu * s**law.xi)
    for step, sign in ((-1e-9, -1), (1e-9, 1)):
        g = f + step
        slope = -law.omega * penalty * g ** (-law.omega - 1) + law.xi * both * (1 - g) ** (-law.xi - 1)
        assert np.sign(slope) == sign


def test_optimum_at_one_is_said_when_nothing_speaks_for_full_precision() -> None:
    found = optimal_fraction(dataclasses.replace(QAT, lam=0.0), n=1e9, d_total=1e11, bits=4)
    assert found.end.tolist() == [1]
    assert found.fraction.tolist() == [1.0]
    assert np.isfinite(found.loss).all()


def test_optimum_at_zero_is_said_when_nothing_speaks_for_qat() -> None:
    found = optimal_fraction(dataclasses.replace(QAT, omega=0.0, rho=0.0), n=1e9, d_total=1e11, bits=4)
    assert found.end.tolist() == [-1]
    assert found.fraction.tolist() == [0.0]


def test_an_end_without_a_value_is_left_by_a_hair() -> None:
    """An exponent fitted as 1e-20 makes fraction 0 singular, yet the loss falls all the way towards it."""
    law = dataclasses.replace(QAT, omega=1e-20, rho=0.0)
    found = optimal_fraction(law, n=1e9, d_total=1e11, bits=4)
    assert found.end.tolist() == [-1]
    assert 0 < found.fraction[0] < 1e-15
    x = Inputs.of(n=1e9, d_total=1e11, bits=4, fraction=[found.fraction[0], 1e-9])
    assert law.outside(x) == [None, None]
    assert found.loss[0] == law.predict(x)[0] <= law.predict(x)[1]


def test_tiny_interaction_stays_finite() -> None:
    found = optimal_fraction(dataclasses.replace(QAT, xi=1e-14, lam=1e-30), n=1e9, d_total=1e11, bits=4)
    assert np.isfinite(found.loss).all()


def test_draws_are_vectorised_and_equal_single_calls() -> None:
    laws = [dataclasses.replace(QAT, omega=w, xi=x) for w, x in ((0.3, 0.4), (0.5, 0.9), (0.7, 0.1))]
    draws = np.stack([law.coordinates() for law in laws])
    d_total = np.array([1e10, 1e12])
    many = optimal_fraction(QAT, n=1e9, d_total=d_total, bits=4, draws=draws)
    assert many.fraction.shape == (3, 2)
    for i, law in enumerate(laws):
        one = optimal_fraction(law, n=1e9, d_total=d_total, bits=4)
        np.testing.assert_allclose(many.fraction[i], one.fraction, rtol=1e-12)
        np.testing.assert_allclose(many.loss[i], one.loss, rtol=1e-12)


def test_agrees_with_bisection_over_wide_draws() -> None:
    """The root of the derivative, bisected draw by draw, for parameters all over the law's bounds."""
    rng = np.random.default_rng(5)
    names = [p.name for p in QAT.parameters()]
    draws = np.tile(QAT.coordinates(), (400, 1))
    for name, low, high in (("phi", -8, 8), ("lam", -8, 8), ("omega", 0.01, 4), ("xi", 0.001, 4), ("rho", 0, 4)):
        draws[:, names.index(name)] = rng.uniform(low, high, 400)
    draws[:40, names.index("rho")] = 0.0
    s, bits, n = 200.0, 3.0, 1e9
    found = optimal_fraction(QAT, n=n, d_total=s * n * bits / 8, bits=bits, draws=draws)
    for theta, fraction in zip(draws, found.fraction[:, 0], strict=True):
        law = QAT.from_coordinates(theta)
        penalty = law.phi * 2 ** (-law.chi * bits) / (n**law.psi * s**law.omega)
        both = law.lam * 2 ** (-law.mu * bits) / (n**law.nu * s ** (law.xi + law.rho))

        def derivative(u: float, law: QatLoss = law, penalty: float = penalty, both: float = both) -> float:
            f, g = 1 / (1 + math.exp(-u)), 1 / (1 + math.exp(u))
            return both * g**-law.xi * f**-law.rho * (law.xi * f / g - law.rho) - law.omega * penalty * f**-law.omega

        root = brentq(derivative, -30, 30, xtol=1e-13, rtol=1e-14)
        assert fraction == pytest.approx(1 / (1 + math.exp(-root)), rel=1e-9)


def test_fraction_law_gives_its_fraction_and_no_loss() -> None:
    found = optimal_fraction(QatFraction(), n=1e9, d_total=5e10, bits=4)
    assert found.fraction[0] == pytest.approx(float(QatFraction().fraction(100.0)))
    assert np.isnan(found.loss).all()


def test_a_law_blind_to_the_split_is_refused() -> None:
    with pytest.raises(UsageError, match="does not depend on the QAT fraction"):
        optimal_fraction(Chinchilla.published(), n=1e9, d_total=1e10, bits=4)


@pytest.mark.parametrize("name", ["qat-loss", "precision", "chinchilla", "ouyang"])
def test_rows_are_predicted_at_their_own_parameters(name: str) -> None:
    rng = np.random.default_rng(3)
    law = get(name).for_inputs(Inputs.of(n=1e8, d_total=1e10, fraction=0.3, bits=4.0))
    theta = law.coordinates() + rng.uniform(0, 0.1, (5, law.coordinates().size))
    quantized = {} if name == "chinchilla" else {"bits": rng.uniform(2, 6, 5), "fraction": rng.uniform(0.1, 0.9, 5)}
    x = Inputs.of(n=rng.uniform(1e8, 1e9, 5), d_total=rng.uniform(1e9, 1e11, 5), **quantized)
    expected = [float(law.from_coordinates(theta[i]).predict(x.take([i]))[0]) for i in range(5)]
    assert predict_rows(law, theta, x) == pytest.approx(expected, rel=1e-9)
