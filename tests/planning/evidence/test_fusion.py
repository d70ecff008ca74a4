"""Advice on fusing cooldown and QAT: from the paper without runs, from the runs where there are any."""

import math

import pytest
from support.problems import problem

from qatplan.laws import QatLoss
from qatplan.planning.evidence.fusion import advice, measured_fusion
from qatplan.planning.objective import Objective
from qatplan.planning.solve import solve


def run(schedule: str, loss: float | None, seed: int = 0, bits: float = 4.0, d_qat: int = 10) -> dict[str, object]:
    return {
        "n_total": 1000,
        "d_total": 100,
        "d_qat": d_qat,
        "bits": bits,
        "schedule": schedule,
        "seed": seed,
        "loss": loss,
    }


def test_best_against_best_within_each_setting() -> None:
    rows = [
        run("classic", 2.0), run("classic", 2.2, d_qat=50), run("fused", 1.9), run("fused-late", 2.5),
        run("classic", 3.0, seed=1), run("fused", 3.0, seed=1), run("fused", None, seed=1),
        run("classic", 1.0, seed=2),  # no fused run beside it
        run("fused", 9.0, bits=2.0), run("post-training", 0.5, d_qat=0),
    ]  # fmt: skip
    said = measured_fusion(rows, 4.0)
    assert said is not None
    gain = math.log(2.0 / 1.9)
    assert said.gain == pytest.approx(gain / 2)
    assert said.error == pytest.approx(gain / 2)
    assert said.pairs == 2
    assert measured_fusion(rows, 3.0) is None


def test_runs_outweigh_the_paper(law: QatLoss) -> None:
    objective = Objective(law=law)
    plan = solve(objective, problem(bits=(4.0,), params=1e9, tokens=1e11), 4.0)
    assert advice(objective, plan, None).advised is True
    harmful = measured_fusion(
        [r for s in range(3) for r in (run("classic", 2.0, s), run("fused", 2.1 + s / 100, s))], 4.0
    )
    assert advice(objective, plan, harmful).advised is False
    once = measured_fusion([run("classic", 2.0), run("fused", 1.9)], 4.0)
    unsure = advice(objective, plan, once)
    assert unsure.advised is False
    assert "cannot tell" in unsure.why


def test_saved_tokens_are_what_the_classic_schedule_would_need(law: QatLoss) -> None:
    objective = Objective(law=law)
    plan = solve(objective, problem(bits=(4.0,), params=1e9, tokens=1e11), 4.0)
    helpful = measured_fusion(
        [r for s in range(3) for r in (run("classic", 2.0, s), run("fused", 1.99 + s / 1e4, s))], 4.0
    )
    assert helpful is not None
    said = advice(objective, plan, helpful)
    assert said.advised is True
    reached = float(objective.best(1e9, plan.tokens + said.saved_tokens, 4.0)[1][0])
    assert reached == pytest.approx(plan.loss * math.exp(-helpful.gain), abs=1e-9)
