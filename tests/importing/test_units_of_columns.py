"""Units that the name of a column gives away are converted, or refused with the factor."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from support.foreign import imported

from qatplan.errors import UsageError
from qatplan.importing.units import scale

MAPPING = {"n_params": "n", "d_total": "tokens", "loss": "val"}


def row(**changes: Any) -> dict[str, Any]:
    return {"n": 10**6, "tokens": 10**8, "val": 3.25, **changes}


@pytest.mark.parametrize(
    ("column", "cell", "loss"),
    [
        ("val_ppl", 20.0, math.log(20)), ("perplexity", 11.5, math.log(11.5)), ("eval/perplexity", 9.0, math.log(9)),
        ("loss_bits", 4.5, 4.5 * math.log(2)), ("bits_per_token", 4.5, 4.5 * math.log(2)),
        ("loss (bits)", 4.5, 4.5 * math.log(2)), ("val_loss_log2", 4.5, 4.5 * math.log(2)), ("ce_nats", 3.1, 3.1),
        ("loss_4_bits", 3.1, 3.1), ("suppl_loss", 3.1, 3.1),
    ],
)  # fmt: skip
def test_losses(tmp_path: Path, column: str, cell: float, loss: float) -> None:
    result = imported(tmp_path, [row(**{column: cell})], {**MAPPING, "loss": column})
    assert result.table.column("loss").to_pylist() == [pytest.approx(loss, rel=1e-15)]
    assert any(f"{column} is " in note and "by its name" in note for note in result.notes) is (loss != cell)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("bpb", r"per byte or character by its name, .* --map loss=\"bpb \* 4.2 \* log\(2\)\""),
        ("val/bits_per_byte", r"`val/bits_per_byte` \* 4.2 \* log\(2\)"),
        ("bits_per_char", "per byte or character"),
        ("bpc", "per byte or character"),
        ("loss_log10", r"loss_log10 \* 2.302585.*10 \*\* loss_log10"),
    ],
)
def test_losses_of_two_readings_are_refused_with_the_factor(tmp_path: Path, column: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        imported(tmp_path, [row(**{column: 1.0})], {**MAPPING, "loss": column})


@pytest.mark.parametrize(
    ("column", "cell", "count"),
    [
        ("params_M", 124.5, 124_500_000), ("tokens_B", 2.5, 2_500_000_000), ("params (M)", 30, 30_000_000),
        ("params_millions", 30, 30_000_000), ("size [B]", 1.5, 1_500_000_000), ("N (1e6)", 30, 30_000_000),
        ("params in millions", 30, 30_000_000), ("N/1e9", 0.125, 125_000_000), ("log10_params", 8.0, 10**8),
        ("n_total", 30_000_000, 30_000_000), ("model_size", 30_000_000, 30_000_000),
    ],
)  # fmt: skip
def test_counts(tmp_path: Path, column: str, cell: float, count: int) -> None:
    result = imported(tmp_path, [row(**{column: cell})], {**MAPPING, "n_params": column, "d_total": "n * 1000"})
    assert result.table.column("n_total").to_pylist() == [count]


def test_a_name_that_its_values_contradict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"in units of 1e\+09 by its name, yet holds 2.5e\+09; .* \* 1\" if it is not"):
        imported(tmp_path, [row(tokens_B=2_500_000_000)], {**MAPPING, "d_total": "tokens_B"})
    kept = imported(tmp_path, [row(tokens_B=2_500_000_000)], {**MAPPING, "d_total": "tokens_B * 1"})
    assert kept.table.column("d_total").to_pylist() == [2_500_000_000]


def test_a_formula_must_say_the_unit_of_its_columns(tmp_path: Path) -> None:
    rows = [{"flops (1e18)": 0.6, "n": 10**6, "val": 3.0}]
    with pytest.raises(UsageError, match=r"write \(`flops \(1e18\)` \* 1e\+18\)"):
        imported(tmp_path, rows, {**MAPPING, "d_total": "`flops (1e18)` / (6 * n)"})
    result = imported(tmp_path, rows, {**MAPPING, "d_total": "`flops (1e18)` * 1e18 / (6 * n)"})
    assert result.table.column("d_total").to_pylist() == [10**11]


def test_sums_and_logarithms_make_fields(tmp_path: Path) -> None:
    rows = [{"wte": 200_000, "blocks": 800_000, "tokens": 10**8, "ppl": 20.0}]
    result = imported(tmp_path, rows, {"n_params": "wte+blocks", "d_total": "tokens", "loss": "log(ppl)"})
    assert result.table.column("n_total").to_pylist() == [10**6]
    assert result.table.column("loss").to_pylist() == [math.log(20)]


def test_counts_read_off_a_figure_are_rounded_with_one_note(tmp_path: Path) -> None:
    rows = [row(n=2006678124.15, tokens=7.1e10 + 0.25, val=2.5), row(n=806678124.4, tokens=7.1e10, val=2.7)]
    result = imported(tmp_path, rows, MAPPING)
    assert result.table.column("n_total").to_pylist() == [2006678124, 806678124]
    assert result.table.column("d_total").to_pylist() == [71 * 10**9] * 2
    assert [note for note in result.notes if "rounded" in note] == [
        "n_total, d_total of 2 rows are not whole and were rounded"
    ]


def test_scales() -> None:
    assert [scale(c) for c in ("d_fp", "N", "tokens_seen", "width", "loss_b1")] == [None] * 5
