"""Training FLOPs against published counts, device time, and rates that cannot be."""

from dataclasses import replace

import pytest

from qatplan.errors import UsageError
from qatplan.models.costs import DEVICES, Training, device, flops_per_token
from qatplan.models.layout import infer, of_architecture
from qatplan.models.presets import preset


def test_llama_3_1_405b_took_the_published_flops() -> None:
    """arXiv 2407.21783, section 3.2: 3.8e25 FLOPs on 15.6 trillion tokens, two digits given, sequence 8192."""
    spent = Training(device="H100", sequence=8192).cost(
        of_architecture(preset("llama-3.1-405b")), d_fp=15.6e12, d_qat=0.0
    )
    assert spent.flops == pytest.approx(3.8e25, rel=0.05)


def test_attention_is_what_6nd_leaves_out() -> None:
    layout = of_architecture(preset("smollm2-135m"))
    matrices, attention = flops_per_token(layout, sequence=8192)
    weights = layout.parameters - layout.other
    assert matrices == 6 * weights
    # Forward: 2 multiplications (scores, values), 2 FLOPs each, heads * head size wide, (sequence + 1) / 2 positions.
    assert attention == 3 * 4 * 30 * 9 * 64 * (8192 + 1) / 2
    assert attention / matrices > 0.5


def test_sliding_windows_see_less() -> None:
    layout = of_architecture(preset("gpt-oss-20b"))
    _, attention = flops_per_token(layout, sequence=1000)
    width = 64 * 64 * 12
    seen_local = sum(min(i, 128) for i in range(1, 1001)) / 1000
    assert attention == pytest.approx(12 * width * (1001 / 2 + seen_local), rel=1e-12)


def test_phases_and_slowdown() -> None:
    layout = infer(1e9)
    plain = Training(device="h100").cost(layout, d_fp=3e9, d_qat=1e9)
    slow = Training(device="h100", qat_slowdown=1.4, price_per_hour=2.0).cost(layout, d_fp=3e9, d_qat=1e9)
    assert plain.flops_fp == pytest.approx(3 * plain.flops_qat)
    assert slow.flops == plain.flops
    assert slow.gpu_hours / plain.gpu_hours == pytest.approx((3 + 1.4) / 4)
    assert plain.gpu_hours == pytest.approx(plain.flops / (989e12 * 0.4 * 3600))
    assert plain.money is None
    assert slow.money == pytest.approx(2 * slow.gpu_hours)
    assert plain.energy_kwh == pytest.approx(plain.gpu_hours * 0.7)


def test_every_device_names_its_source() -> None:
    assert all(d.source.startswith("https://") and d.peak["bf16"] > 1e13 for d in DEVICES.values())


@pytest.mark.parametrize(
    ("change", "words"),
    [({"mfu": 0.0}, "mfu is 0"), ({"mfu": 1.2}, "mfu"), ({"dtype": "int4"}, "no peak"),
     ({"qat_slowdown": 0.0}, "slowdown"), ({"price_per_hour": -1.0}, "price")],
)  # fmt: skip
def test_impossible_rates_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Training(device="a100", **change)


def test_unknown_device() -> None:
    with pytest.raises(UsageError, match="b200"):
        device("tpu-v9")
    with pytest.raises(UsageError, match="sequence"):
        flops_per_token(infer(1e9), sequence=0)


def test_the_formula_by_numbers_is_that_of_a_model() -> None:
    """6 per weight, and 12 per head channel and position seen: half the sequence, or half the window and then all."""
    plain = replace(infer(1e6), active_matrix_weights=1e6, attention_width=64.0)
    matrices, attention = flops_per_token(plain, sequence=101)
    assert matrices == 6e6
    assert attention == pytest.approx(12 * 64 * 51)
    windowed = replace(plain, attention_width=0.0, attention_width_local=64.0, window=10.0)
    local = flops_per_token(windowed, sequence=100)[1]
    assert local == pytest.approx(12 * 64 * sum(min(i, 10) for i in range(1, 101)) / 100)
