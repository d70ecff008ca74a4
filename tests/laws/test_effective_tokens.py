"""The law of effective tokens: values of a program written apart from it, both ends of the split, controls."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import norm
from support.law_examples import EFFECTIVE_TOKENS as LAW

from qatplan.laws import Inputs, QatLoss, optimal_fraction
from qatplan.laws.effective_tokens import SQUARED_ERROR, EffectiveTokens, log_squared_error
from qatplan.laws.optimum import _searched


def test_values_of_an_independent_program() -> None:
    """Losses that the program which found this form gives with its own fit to the shipped sweep."""
    x = Inputs.of(
        n=[20088, 50120, 124936, 247600, 50120, 20088, 50120, 5e4, 2e5],
        d_total=[1e6, 2e6, 4e6, 4e6, 8e6, 2e6, 2e6, 2e6, 1e6],
        bits=[1, 2, 3, 4, 6, 2, 2, np.nan, np.nan],
        fraction=[0.1, 0.4, 0.7, 0.03, 0.2, 1.0, 0.0, 0, 0],
    )
    known = [
        2.25627036, 1.57870055, 1.31724482, 1.2455607, 1.31674178, 1.81098794, 3.0610354, 1.4324181, 1.43499201,
    ]  # fmt: skip
    # It rounds squared errors to four digits.
    np.testing.assert_allclose(LAW.predict(x), known, rtol=3e-5)


def test_it_is_its_formula() -> None:
    n, d, b, f = 5e4, 3e6, 2.0, 0.3
    law = dataclasses.replace(LAW, eD=0.07, s=0.3)
    q = 0.11885 / 0.037440
    eta = np.exp(law.e0 + law.e1 * (b - 3) + law.eD * np.log(d / 2e6))
    base = law.E + law.A / n**law.alpha + law.C / (d * (1 - f) + eta * d * f) ** law.beta
    restart = law.R * np.log(1 + f / 0.05) / d**law.delta
    floor = law.F * (d / n) ** law.gF / n**law.nF * (q * (1 + law.s) / (1 + law.s * q)) ** law.cF
    recovery = law.r * 2 ** (-law.c * b) * (d / n) ** law.g / n**law.psi
    recovery /= (d * f / (4 * n) + np.exp(law.log_d0)) ** law.omega
    parts = law.components(Inputs.of(n=n, d_total=d, bits=b, fraction=f))
    assert parts["restart"][0] == pytest.approx(restart, rel=1e-13)
    assert parts["irreducible quantization"][0] == pytest.approx(floor, rel=1e-13)
    assert parts["recovery"][0] == pytest.approx(recovery, rel=1e-13)
    assert sum(v[0] for v in parts.values()) == pytest.approx(base + restart + floor + recovery, rel=1e-13)


def test_squared_errors_are_those_of_the_best_uniform_grid() -> None:
    def distortion(step: float, levels: int) -> float:
        edges = np.r_[-np.inf, (np.arange(1, levels) - levels / 2) * step, np.inf]
        at, low, high = (np.arange(levels) - (levels - 1) / 2) * step, edges[:-1], edges[1:]
        share, slope = norm.cdf(high) - norm.cdf(low), norm.pdf(low) - norm.pdf(high)
        tails = np.nan_to_num(low * norm.pdf(low)) - np.nan_to_num(high * norm.pdf(high))
        return float(np.sum(share + tails - 2 * at * slope + at**2 * share))

    for bits, known in SQUARED_ERROR.items():
        with np.errstate(invalid="ignore"):
            best = minimize_scalar(distortion, (0.5 * 4 / 2**bits, 4 / 2**bits), args=(round(2**bits),))
        assert best.fun == pytest.approx(known, rel=5e-4)
    assert log_squared_error(np.array([3.0]))[0] == 0
    assert np.all(np.diff(log_squared_error(np.linspace(1, 16, 200))) < 0)


def test_both_ends_of_the_split_are_finite_and_continuous() -> None:
    assert LAW.outside(Inputs.of(n=5e4, d_total=2e6, bits=2, fraction=[0.0, 1.0, 0.5])) == [None] * 3
    for end, near in ((0.0, 1e-9), (1.0, 1 - 1e-9)):
        at, beside = LAW.predict(Inputs.of(n=5e4, d_total=2e6, bits=2, fraction=[end, near]))
        assert np.isfinite(at)
        assert at == pytest.approx(beside, rel=1e-6)
    rounded = LAW.components(Inputs.of(n=5e4, d_total=2e6, bits=2, fraction=0.0))
    assert rounded["restart"][0] == 0
    joined = LAW.r * 2 ** (-2 * LAW.c) * 40**LAW.g / 5e4**LAW.psi * np.exp(-LAW.omega * LAW.log_d0)
    assert rounded["recovery"][0] == pytest.approx(joined, rel=1e-12)


def test_a_second_phase_in_full_precision_has_neither_floor_nor_recovery() -> None:
    x = Inputs.of(n=5e4, d_total=2e6, bits=[16, 6, np.nan], fraction=[0.4, 0.4, 0.0])
    parts = LAW.components(x)
    assert parts["recovery"][0] == parts["irreducible quantization"][0] == 0
    assert parts["data"][0] == parts["data"][1]
    assert parts["restart"][0] == parts["restart"][1] > 0
    assert parts["restart"][2] == 0
    worth = (0.6 + 0.4 * np.exp(LAW.e0 + 3 * LAW.e1)) ** -LAW.beta
    assert parts["data"][0] / parts["data"][2] == pytest.approx(worth, rel=1e-12)


@pytest.mark.parametrize("bits", [1.0, 2.0, 4.0, 6.0])
@pytest.mark.parametrize("d_total", [5e5, 2e6, 8e6])
def test_the_best_split_agrees_with_a_fine_grid(bits: float, d_total: float) -> None:
    odds = np.linspace(-12, 12, 40_001)
    x = Inputs.of(n=5e4, d_total=d_total, bits=bits, fraction=1 / (1 + np.exp(-odds)))
    losses = LAW.predict(x)
    found = optimal_fraction(LAW, n=5e4, d_total=d_total, bits=bits)
    assert found.loss[0] <= losses.min() + 1e-13
    assert np.log(found.fraction[0] / (1 - found.fraction[0])) == pytest.approx(odds[losses.argmin()], abs=2e-3)


def test_worth_above_one_without_a_restart_sends_all_tokens_to_qat() -> None:
    law = dataclasses.replace(LAW, e0=0.3, e1=0.0, R=0.0)
    found = optimal_fraction(law, n=5e4, d_total=4e6, bits=3)
    assert found.end.tolist() == [1]
    assert found.fraction.tolist() == [1.0]


def test_the_search_finds_what_the_exact_root_of_the_unified_law_is() -> None:
    law = QatLoss(
        E=1.0, A=150.0, alpha=0.6, C=6e4, beta=0.9, theta=0.3, kappa=1.0, phi=300.0, chi=1.9, psi=0.4, omega=0.36,
        lam=3e5, mu=1.0, nu=0.96, xi=0.9, rho=0.1,
    )  # fmt: skip
    n, d_total, bits = (a.ravel() for a in np.meshgrid([2e4, 2e5], [5e5, 4e6, 6e7], [1.0, 2.0, 4.0]))
    exact = optimal_fraction(law, n=n, d_total=d_total, bits=bits)
    assert exact.interior.all()
    x = Inputs.of(n=n, d_total=d_total, bits=bits, fraction=0.5)
    fraction, loss, end = _searched(law, law.coordinates()[None], x)
    assert not end.any()
    np.testing.assert_allclose(fraction[0], exact.fraction, rtol=1e-6)
    np.testing.assert_allclose(loss[0], exact.loss, rtol=1e-13)


def test_what_rows_do_not_determine() -> None:
    few = EffectiveTokens.for_inputs(Inputs.of(n=1.0, d_total=1.0)).undetermined
    assert set(few(Inputs.of(n=5e4, d_total=[1e6, 2e6]))) == {"e0", "e1", "eD", "s"}
    assert set(few(Inputs.of(n=5e4, d_total=2e6, bits=[2, 4], fraction=0.3))) == {"eD", "s"}
    assert set(few(Inputs.of(n=5e4, d_total=[2e6, 2e6, 2e6, 1e6, 2e6], bits=[2, 3, 4, 16, 16], fraction=0.3))) == set()
    assert "eD" in few(Inputs.of(n=5e4, d_total=[2e6, 2.01e6], bits=[16, 16], fraction=0.3))
