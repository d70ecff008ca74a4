"""The rule for the learning rate of the second phase: found again in simulated sweeps, and what a cell can say."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def rates() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "qat_rates.py"
    spec = importlib.util.spec_from_file_location("qat_rates", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["qat_rates"] = module
    spec.loader.exec_module(module)
    return module


TRUE = {"1": 0.5, "u": 0.6, "u^2": 0.05, "v": -0.5, "u v": 0.1, "s": 1.5, "u s": -0.4, "v s": 0.2}


def simulated(rates: ModuleType, tried: range) -> list[object]:
    rng = np.random.default_rng(1)
    rule = rates.Rule(coefficients=TRUE, errors={})
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


@pytest.mark.parametrize("tried", [range(-4, 4), range(-2, 2)], ids=["wide", "best often at an end"])
def test_a_known_rule_is_found_again(rates: ModuleType, tried: range) -> None:
    found = simulated(rates, tried)
    assert any(cell.at_end for cell in found) or len(tried) == 8  # type: ignore[attr-defined]
    rule = rates.fit(found)
    for name, value in TRUE.items():
        assert abs(rule.coefficients[name] - value) < max(0.1, 4 * rule.errors[name]), name
    assert max(cell.regret(rule.log_rate(cell)) for cell in found) < 0.003  # type: ignore[attr-defined]


def test_terms_that_do_not_vary_are_left_out(rates: ModuleType) -> None:
    one = [cell for cell in simulated(rates, range(-4, 4)) if cell.bits == 4 and cell.d_total == 4e6]  # type: ignore[attr-defined]
    assert list(rates.fit(one).coefficients) == ["1", "u", "u^2"]


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
