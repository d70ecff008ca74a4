"""Learning rates of every schedule, against values worked out by hand."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from qatplan.training.segment import Quantization, SegmentConfig, Switch, from_json
from qatplan.training.shape import shape_of_width

TRUNK = SegmentConfig(
    kind="trunk", shape=shape_of_width(16), seed=0, corpus="c", start=0, end=100, sequences=4, sequence=32,
    learning_rate=0.01, warmup_steps=10, weight_decay=0.1, backend="eager", device="cpu", validation_tokens=1024,
    evaluate=False,
)  # fmt: skip
QUANTIZATION = Quantization(quantizer="paretoq", bits=4, group_size=None, embedding_bits=4)


def switch(**changes: object) -> Switch:
    values = {
        "learning_rate": 0.5,
        "scale_learning_rate": 1.0,
        "optimizer_state": "kept",
        "rewarmup_steps": 4,
        "decay_start": 100,
        **changes,
    }
    return Switch(**values)  # type: ignore[arg-type]


def test_trunk_warms_up_and_stays() -> None:
    rates = [TRUNK.learning_rate_at(step) for step in (0, 4, 9, 10, 99)]
    assert rates == pytest.approx([0.001, 0.005, 0.01, 0.01, 0.01])


def test_cooldown_falls_linearly_to_zero() -> None:
    cooldown = replace(TRUNK, kind="cooldown", start=80, end=100)
    rates = [cooldown.learning_rate_at(step) for step in (80, 85, 90, 99)]
    assert rates == pytest.approx([0.01, 0.0075, 0.005, 0.0005])


def test_cooldown_within_the_warmup_starts_where_the_trunk_was() -> None:
    cooldown = replace(TRUNK, kind="cooldown", start=4, end=6)
    assert [cooldown.learning_rate_at(step) for step in (4, 5)] == pytest.approx([0.005, 0.003])


def test_qat_warms_up_again_and_decays_over_the_whole_phase() -> None:
    qat = replace(TRUNK, kind="qat", start=100, end=200, quantization=QUANTIZATION, switch=switch())
    rates = [qat.learning_rate_at(step) for step in (100, 101, 103, 104, 150, 199)]
    expected = [0.005 * min((k + 1) / 4, (100 - k) / 100) for k in (0, 1, 3, 4, 50, 99)]
    assert rates == pytest.approx(expected)
    assert max(qat.learning_rate_at(step) for step in range(100, 200)) <= 0.005


def test_fused_late_holds_before_it_decays() -> None:
    qat = replace(TRUNK, kind="qat", start=100, end=200, quantization=QUANTIZATION, switch=switch(decay_start=160))
    rates = [qat.learning_rate_at(step) for step in (110, 159, 160, 180, 199)]
    assert rates == pytest.approx([0.005, 0.005, 0.005, 0.0025, 0.005 / 40])


def test_a_second_phase_in_full_precision_has_the_rates_of_one_with_quantization() -> None:
    qat = replace(TRUNK, kind="qat", start=100, end=200, quantization=QUANTIZATION, switch=switch(decay_start=150))
    control = replace(qat, quantization=None)
    for step in range(100, 200):
        assert control.learning_rate_at(step) == qat.learning_rate_at(step)
    assert (qat.bits, control.bits, TRUNK.bits) == (4, 16, None)
    assert control.digest("p") != qat.digest("p")
    assert from_json(asdict(control)) == control


def test_digests_name_what_decides_numbers_and_nothing_else() -> None:
    assert TRUNK.digest(None) == replace(TRUNK, start=50).digest("anything"), "cutting a trunk renames nothing"
    assert TRUNK.digest(None) == replace(TRUNK, evaluate=True).digest(None)
    assert TRUNK.digest(None) != replace(TRUNK, end=101).digest(None)
    assert TRUNK.digest(None) != replace(TRUNK, learning_rate=0.02).digest(None)
    cooldown = replace(TRUNK, kind="cooldown", start=80)
    assert cooldown.digest("a") != cooldown.digest("b")
    qat = replace(TRUNK, kind="qat", quantization=QUANTIZATION, switch=switch())
    assert from_json(asdict(qat)) == qat
