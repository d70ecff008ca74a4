"""A law of one's own is fitted as the same law built in: one optimum, one certificate, the same standard errors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.benchmarks import load

from qatplan.errors import DataError, UsageError
from qatplan.fitting.api import fit
from qatplan.fitting.compare import compare
from qatplan.fitting.intervals.profile import calibrate
from qatplan.fitting.options import FitOptions
from qatplan.fitting.solver.objective import Weighted, derivatives
from qatplan.fitting.solver.problem import build
from qatplan.laws import Inputs, get
from qatplan.laws.own.file import made

own_law = load("own_law")
INF = float("inf")


@pytest.mark.parametrize("name", ["chinchilla", "qat-loss", "precision"])
def test_one_optimum_and_the_same_standard_errors(name: str) -> None:
    rows = own_law.rows_of(name, count=150)
    mine, theirs = own_law.solved(own_law.twin(name), rows), own_law.solved(get(name), rows)
    assert mine.objective == pytest.approx(theirs.objective, rel=1e-9)
    assert mine.certificate.starts_agreeing >= 3
    params = [s.problem.law.from_coordinates(s.theta()).params() for s in (mine, theirs)]
    errors = []
    for solution in (mine, theirs):
        covariance = calibrate(solution, rows, own_law.DELTA).covariance
        natural = solution.problem.to_theta @ covariance @ solution.problem.to_theta.T
        slopes = [params[1][p.name] ** 2 if p.coordinate == "inverse" else 1.0 for p in solution.problem.free]
        errors.append(np.sqrt(np.diag(natural)) * slopes)
    free = np.array([p.name not in theirs.at_bounds for p in theirs.problem.free])
    np.testing.assert_allclose(errors[0][free], errors[1][free], rtol=1e-3)
    predictions = [s.problem.law.from_coordinates(s.theta()).predict(rows.x) for s in (mine, theirs)]
    np.testing.assert_allclose(*predictions, rtol=1e-6)


FORMULA = "E + A/N^a + C/(D_fp + eta*D_qat)^b + quantized*r*2^(-c*bits)/(D_qat/N + d0)^a"
PARAMETERS = {
    "E": {"domain": (0.5, INF), "unit": "nats/token", "meaning": "level"},
    "A": {"domain": (0, INF), "unit": "1", "meaning": "of sizes"},
    "a": {"domain": (0, 3), "start": (0.1, 1), "unit": "1", "meaning": "in two terms"},
    "C": {"domain": (0, INF), "unit": "1", "meaning": "of tokens"},
    "b": {"domain": (0, 3), "start": (0.1, 1), "unit": "1", "meaning": "of tokens"},
    "eta": {"domain": (0.01, 10), "start": (0.2, 1.2), "scale": "log", "unit": "1", "meaning": "worth of a token"},
    "r": {"domain": (0, INF), "unit": "1", "meaning": "of rounding"},
    "c": {"domain": (0, 8), "start": (0.3, 2), "unit": "1/bit", "meaning": "halvings"},
    "d0": {"domain": (0.001, 9), "start": (0.01, 1), "unit": "tokens", "meaning": "of rounding alone"},
}
TRUE = {"E": 1.5, "A": 90.0, "a": 0.3, "C": 300.0, "b": 0.35, "eta": 0.7, "r": 2.0, "c": 0.8, "d0": 0.2}
KIND = made({"formula": FORMULA, "parameters": PARAMETERS}, name="mine", taken=())


def columns(noise: float = 0.001) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    n, ratio = rng.choice([1e7, 5e7, 2e8, 1e9], 140), rng.choice([20.0, 80.0, 300.0], 140)
    bits = rng.choice([2.0, 3.0, 4.0, np.nan], 140)
    fraction = np.where(np.isnan(bits), 0.0, rng.choice([0.03, 0.1, 0.3, 0.7], 140))
    x = Inputs.of(n=n, d_total=n * ratio, bits=bits, fraction=fraction)
    loss = KIND.from_params(TRUE).predict(x) * np.exp(noise * rng.standard_normal(140))
    return {"n_total": n, "d_fp": x.d_fp, "d_qat": x.d_qat, "bits": bits, "loss": loss}


def test_a_parameter_in_two_terms_and_one_on_a_log_scale_come_back() -> None:
    found = fit(columns(noise=1e-7), FitOptions(law=KIND))
    assert found.status == "good"
    for name, value in TRUE.items():
        assert found.params[name] == pytest.approx(value, rel=1e-3), name


def test_gradient_and_hessian_are_those_of_the_objective() -> None:
    table = columns()
    x = Inputs.of(n=table["n_total"], d_fp=table["d_fp"], d_qat=table["d_qat"], bits=table["bits"])
    problem = build(KIND.from_params(TRUE), x, table["loss"])
    task = Weighted(problem=problem, weights=np.ones(140), log_y=problem.log_y)
    at = problem.scaled(KIND.from_params({**TRUE, "a": 0.31, "eta": 0.8}).coordinates())[None]
    steps, rows = 1e-5 * np.eye(problem.size), np.arange(problem.size)
    _, gradient, hessian = derivatives(task, rows[:1], at, 1e6)
    (up, slope_up, _), (down, slope_down, _) = (derivatives(task, rows, at + s * steps, 1e6) for s in (1, -1))
    np.testing.assert_allclose(gradient[0], (up - down) / 2e-5, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(hessian[0], (slope_up - slope_down) / 2e-5, rtol=1e-4, atol=1e-4)


def test_a_domain_of_an_amplitude_holds_and_a_fixed_parameter_stays() -> None:
    narrow = {**PARAMETERS, "E": {**PARAMETERS["E"], "domain": (1.6, 2.0)}}
    kind = made({"formula": FORMULA, "parameters": narrow}, name="mine", taken=())
    found = fit(columns(), FitOptions(law=kind, fix={"eta": 0.7}))
    assert (found.params["E"], found.params["eta"]) == (pytest.approx(1.6), 0.7)
    assert "E ended at its bound 1.6 (allowed 1.6 to 2)" in found.flags


def test_what_the_rows_cannot_tell_apart_is_said() -> None:
    twice = {**{k: PARAMETERS[k] for k in ("E", "A", "a", "C", "b")}, "k": {**PARAMETERS["b"], "meaning": "again"}}
    kind = made({"formula": "E + A/N^a + C/(D^b*D^k)", "parameters": twice}, name="twice", taken=())
    found = fit(columns(), FitOptions(law=kind))
    assert found.status == "undetermined"
    assert any("b and k cannot be told apart" in note for note in found.identifiability)


def test_rows_that_a_formula_does_not_describe_are_left_out_with_the_reason() -> None:
    some = {k: PARAMETERS[k] for k in ("E", "C", "b")}
    kind = made({"formula": "E + C/(bits*D)^b", "parameters": some}, name="bitten", taken=())
    found = fit(columns(), FitOptions(law=kind))
    why = "no bit width, and the formula names bits outside a product with quantized, trained or rounded"
    assert [entry.reason for entry in found.left_out] == [why]
    never = made({"formula": "E + C/(G*D)^b", "parameters": some}, name="never", taken=())
    with pytest.raises(DataError, match="no group size, and the formula names G"):
        fit(columns(), FitOptions(law=never))


def test_a_comparison_takes_laws_of_ones_own() -> None:
    made_twice = compare(columns(), laws=["effective", KIND])
    assert {entry.law for entry in made_twice.entries} == {"effective", "mine"}
    assert made_twice.entries[0].law == "mine"
    with pytest.raises(UsageError, match="a law is named twice in mine, mine"):
        compare(columns(), laws=[KIND, made({"formula": FORMULA, "parameters": PARAMETERS}, name="mine", taken=())])
    assert dataclasses.asdict(FitOptions(law=KIND))["law"] is KIND
