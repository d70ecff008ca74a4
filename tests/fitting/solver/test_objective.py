"""The objective's derivatives, for every kind of law, against differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import check_grad
from support.law_examples import EFFECTIVE_TOKENS, slopes
from support.simulated import TRUE_CHINCHILLA, TRUE_QAT, observed, qat_points

from qatplan.fitting.solver.objective import Weighted, derivatives, jacobian, residuals, value
from qatplan.fitting.solver.problem import build
from qatplan.fitting.solver.whitening import Whitening
from qatplan.laws import Chen2025, ChinchillaPerBits, Effective, Inputs, Law, Ouyang, Precision

ONE = np.array([0])
GROUPS = np.resize([32.0, 64.0, 128.0, 256.0], 80)


def cases() -> list[tuple[Law, Inputs]]:
    x = qat_points(80)
    mixed = Inputs.of(
        n=np.r_[x.n, x.n[:9]],
        d_fp=np.r_[x.d_fp, x.d_total[:9]],
        d_qat=np.r_[x.d_qat, np.zeros(9)],
        bits=np.r_[x.bits, np.full(9, 4.0)],
    )
    effective = Effective(
        E=1.8, A=480.0, alpha=0.35, C=2000.0, beta=0.37, bit_widths=(1, 2, 4, 6), eff=(0.2, 0.4, 0.8, 0.9)
    )
    ends = Inputs.of(n=x.n, d_total=x.d_total, bits=np.where(x.quantized, x.bits, 3.0), fraction=0.0)
    per_bits = ChinchillaPerBits.for_inputs(x).replace(
        {f"{k}_{b}": v for k, v in TRUE_CHINCHILLA.params().items() for b in ("1", "2", "4", "6", "fp")}
    )
    grouped = Inputs.of(n=x.n, d_fp=x.d_fp, d_qat=x.d_qat, bits=np.where(x.quantized, 4.0, np.nan), group_size=GROUPS)
    small = qat_points(80)
    widths = np.where(small.bits == 1, 16.0, small.bits)
    controls = Inputs.of(n=small.n / 1e4, d_fp=small.d_fp / 1e4, d_qat=small.d_qat / 1e4, bits=widths)
    return [
        (TRUE_QAT, x),
        (Chen2025.published(), grouped),
        (effective, x),
        (Precision.published(), mixed),
        (Ouyang.published(TRUE_CHINCHILLA), ends),
        (per_bits, x),
        (replace(EFFECTIVE_TOKENS, eD=0.1), controls),
    ]


@pytest.mark.parametrize("effects", [False, True], ids=["", "with effects"])
@pytest.mark.parametrize(("law", "x"), cases(), ids=lambda c: getattr(c, "name", ""))
def test_gradient_and_hessian(law: Law, x: Inputs, effects: bool) -> None:
    y = observed(law, x, 0.02)
    problem = build(law, x, y)
    if effects:
        groups = np.arange(len(x)) % 5, np.arange(len(x)) % 20
        problem = replace(problem, whitening=Whitening(groups=groups, ratios=(0.8, 1.3)))
    weights = np.random.default_rng(0).integers(1, 4, len(x)).astype(float)
    task = Weighted(problem=problem, weights=weights, log_y=problem.log_y)
    u, delta = problem.scaled(law.coordinates()) + 0.01, 0.02

    def f(v: np.ndarray) -> float:
        return float(value(task, ONE, v[None, :], delta)[0])

    def g(v: np.ndarray) -> np.ndarray:
        return derivatives(task, ONE, v[None, :], delta)[1][0]

    objective, gradient, hessian = derivatives(task, ONE, u[None, :], delta)
    assert objective[0] == pytest.approx(f(u), rel=1e-13)
    assert check_grad(f, g, u) < 1e-4 * np.linalg.norm(gradient)
    step = 1e-6
    numeric = np.stack([(g(u + step * e) - g(u - step * e)) / (2 * step) for e in np.eye(len(u))])
    np.testing.assert_allclose(hessian[0], numeric, atol=2e-5 * np.abs(hessian).max())


@pytest.mark.parametrize(("law", "x"), cases(), ids=lambda c: getattr(c, "name", ""))
def test_residuals_are_the_laws_own_prediction(law: Law, x: Inputs) -> None:
    y = observed(law, x, 0.02)
    problem = build(law, x, y)
    u = problem.scaled(law.coordinates())
    np.testing.assert_allclose(residuals(problem, u[None, :])[0], np.log(law.predict(x) / y), atol=1e-12)
    np.testing.assert_allclose(problem.theta(u), law.coordinates(), atol=1e-9)
    np.testing.assert_allclose(jacobian(problem, u), slopes(law, x) @ problem.to_theta, atol=1e-7)


def test_an_exponent_may_be_fixed_while_its_rates_are_free() -> None:
    x = cases()[-1][1]
    free = build(EFFECTIVE_TOKENS, x, observed(EFFECTIVE_TOKENS, x))
    fixed = build(EFFECTIVE_TOKENS, x, np.exp(free.log_y), fixed={"omega": EFFECTIVE_TOKENS.omega, "eD": 0.0})
    at = [p.scaled(EFFECTIVE_TOKENS.coordinates()) for p in (free, fixed)]
    np.testing.assert_allclose(residuals(fixed, at[1][None]), residuals(free, at[0][None]), atol=1e-12)
    theta = [jacobian(p, u) @ p.to_u for p, u in zip((free, fixed), at, strict=True)]
    kept = [i for i, p in enumerate(free.free) if p.name not in ("omega", "eD")]
    np.testing.assert_allclose(theta[1], theta[0][:, kept], atol=1e-12)


def test_rows_in_slices_give_the_same_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    x = qat_points(101)
    y = observed(TRUE_QAT, x)
    problem = build(TRUE_QAT, x, y)
    task = Weighted(problem=problem, weights=np.ones(101), log_y=problem.log_y)
    u = problem.scaled(TRUE_QAT.coordinates())[None, :]
    whole = derivatives(task, ONE, u, 1e-3)
    monkeypatch.setattr("qatplan.fitting.solver.objective._ROWS_AT_ONCE", 7)
    for one, other in zip(whole, derivatives(task, ONE, u, 1e-3), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
