"""The rule for the learning rate of the second phase: found again in simulated sweeps, and what a cell can say."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from support.benchmarks import load

from qatplan.sweeping.rates import HIGHEST, LOWEST, PARAMETERS, qat_learning_rate
from qatplan.sweeping.specification import parse


@pytest.fixture(scope="module")
def rates() -> ModuleType:
    return load("qat_rates")


TRUE = {"a": -3.5, "b": 1.0, "c": -0.3, "d": 0.1, "e": -0.8, "h": 1.4, "m": 0.1, "middle": -0.5, "log width": -0.3}


def simulated(rates: ModuleType, tried: range) -> list[object]:
    rng = np.random.default_rng(1)
    rule = rates.Rule(parameters=TRUE, errors={})
    log_rate = np.array(tried, dtype=float)
    found = []
    for bits in (1.0, 2.0, 4.0, 16.0):
        for d_total in (1e6, 4e6, 16e6):
            for fraction in (0.03, 0.1, 0.3, 0.7, 0.9):
                cell = {"n": 2e4, "d_total": d_total, "bits": bits, "fraction": fraction, "log_rate": log_rate}
                at = rule.log_rate(rates.Cell(**cell, loss=log_rate))
                loss = 2 + 0.1 / bits + 0.006 * (log_rate - at) ** 2 + 0.0005 * rng.standard_normal(len(log_rate))
                found.append(rates.Cell(**cell, loss=loss))
    return found


def test_a_known_rule_is_found_again(rates: ModuleType) -> None:
    found = simulated(rates, range(-4, 2))
    assert any(cell.at_end for cell in found), "the fit must see beyond what was tried"  # type: ignore[attr-defined]
    rule = rates.fit(found)
    for name, value in TRUE.items():
        assert abs(rule.parameters[name] - value) < max(0.1, 4 * rule.errors[name]), name
    assert max(cell.regret(rule.log_rate(cell)) for cell in found) < 0.003  # type: ignore[attr-defined]


def test_where_cells_say_nothing_the_prior_decides(rates: ModuleType) -> None:
    one = [cell for cell in simulated(rates, range(-4, 2)) if cell.bits == 4 and cell.d_total == 4e6]  # type: ignore[attr-defined]
    rule = rates.fit(one)
    assert rule.parameters["m"] == pytest.approx(rates.PRIOR["m"][0], abs=1e-3), "one budget"
    assert max(cell.regret(rule.log_rate(cell)) for cell in one) < 0.003  # type: ignore[attr-defined]


def test_a_grid_takes_multiples_of_the_fitted_rule(rates: ModuleType) -> None:
    for bits, fraction, tokens in ((2, 0.03, 1e6), (4, 0.5, 16e6), (16, 0.9, 4e6)):
        cell = rates.Cell(n=1, d_total=tokens, bits=bits, fraction=fraction, log_rate=np.zeros(1), loss=np.zeros(1))
        rate = 2 ** rates.Rule(parameters=PARAMETERS, errors={}).log_rate(cell)
        assert qat_learning_rate(bits, fraction, tokens) == pytest.approx(rate, rel=0.06), "to two digits"
    assert list(rates.PRIOR) == list(PARAMETERS)
    content = {"widths": 16, "tokens": "1M", "bits": 4, "fractions": [0.1, 0.5], "qat_rate_multiples": [0.5, 1, 2]}
    grid = parse({"corpus": {"name": "sotu"}, "grid": [content]}, Path()).grids[0]
    rule = qat_learning_rate(4, 0.1, 1e6)
    assert grid.ratios(4, 0.1, 1e6) == pytest.approx((rule / 2, rule, rule * 2), rel=0.06)
    assert grid.ratios(4, 0.5, 1e6)[1] > 2 * rule, "a long second phase takes a larger rate"
    assert LOWEST <= qat_learning_rate(16, 1e-4, 1e12) < qat_learning_rate(1, 1, 1e3) <= HIGHEST


def test_what_a_cell_says(rates: ModuleType) -> None:
    cell = rates.Cell(n=1, d_total=1, bits=4, fraction=0.1, log_rate=np.array([-2.0, -1.0, 0.0]),
                      loss=np.array([1.2, 1.0, 1.1]))  # fmt: skip
    assert not cell.at_end
    assert cell.vertex == pytest.approx(-1 + 0.5 * 0.1 / 0.3)
    assert cell.regret(0.0) == pytest.approx(0.1)
    assert cell.regret(5.0) == pytest.approx(0.1)
    assert (cell.covers(-1.5), cell.covers(0.5)) == (True, False)
    ends = rates.Cell(n=1, d_total=1, bits=4, fraction=0.1, log_rate=cell.log_rate, loss=np.array([1.0, 1.1, 1.2]))
    assert ends.at_end
    assert np.isnan(ends.vertex)


def test_only_runs_that_are_usual_in_all_else_make_cells(rates: ModuleType) -> None:
    row = {
        "schedule": "classic", "loss": 2.0, "d_fp": 900_000, "d_qat": 100_000, "d_total": 1_000_000, "n_total": 20_000,
        "bits": 4.0, "qat_learning_rate": 0.2, "rewarmup_tokens": 5000, "batch_tokens": 2048, "cooldown": 0.2,
        "optimizer_state": "kept", "optimizer": "adamw", "scale_learning_rate": 1.0, "qat_decay": None,
    }  # fmt: skip
    pair = [row, {**row, "qat_learning_rate": 0.4, "loss": 2.1}]
    others = [
        {"qat_decay": 0.5},
        {"cooldown": 0.5},
        {"optimizer_state": "reset"},
        {"schedule": "fused"},
        {"loss": None},
    ]
    (cell,) = rates.cells([*pair, *({**row, **change, "qat_learning_rate": 0.8} for change in others)])
    assert cell.log_rate.tolist() == [np.log2(0.2), np.log2(0.4)]
    assert cell.fraction == 0.1
