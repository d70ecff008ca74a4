"""Formats by their names: into bits where they are known, never full precision by default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.foreign import imported, reasons

from qatplan.importing.formats import Widths, is_low_format, widths

MAPPING = {"n_params": "n", "d_total": "tokens", "loss": "val"}


def row(**changes: Any) -> dict[str, Any]:
    return {"n": 10**6, "tokens": 10**8, "val": 3.25, **changes}


@pytest.mark.parametrize(
    ("text", "weights", "activations"),
    [
        ("W4A16", 4, None), ("W4A4", 4, 4), ("w4a8kv4", 4, 8), ("W4-A8", 4, 8), ("W1.58A8", 1.58, 8),
        ("W16A4", None, 4), ("W16A16", None, None), ("1.58bit", 1.58, None), ("ternary", 1.58, None),
        ("BitNet b1.58", 1.58, None), ("BitNet", 1.58, None), ("Q4_K_M", 4, None), ("Q8_0", 8, None),
        ("IQ2_XXS", 2, None), ("E2M1", 4, None), ("fp8_e4m3", 8, None), ("MXFP4", 4, None), ("nvfp4", 4, None),
        ("int4", 4, None), ("INT8", 8, None), ("nf4", 4, None), ("binary", 1, None), ("1-bit", 1, None),
        ("w4", 4, None), ("4 bits", 4, None), ("gptq 4bit g128", 4, None), ("int4 from bf16", 4, None),
        ("HadamardFP4Quantizer", 4, None), ("bf16", None, None), ("full-precision", None, None),
        ("bf16-mixed", None, None), ("float32", None, None), ("none", None, None), ("fp16", None, None),
    ],
)  # fmt: skip
def test_names_of_formats(text: str, weights: float | None, activations: float | None) -> None:
    assert widths(text) == Widths(weights, activations)


@pytest.mark.parametrize("text", ["often", "AWQ", "cosine", "TrustQuantizer", "int4 and int8", "QAT", "adamw"])
def test_other_texts_name_no_format(text: str) -> None:
    assert widths(text) is None
    assert not is_low_format(text)


@pytest.mark.parametrize("column", ["format", "quantization", "method", "precision", "recipe", "scheme", "notes"])
def test_a_column_of_formats_gives_the_bits(tmp_path: Path, column: str) -> None:
    said = ["W4A16", "W4A4", "1.58bit", "ternary", "BitNet b1.58", "Q4_K_M", "E2M1", "MXFP4", "int4", "binary", "bf16"]
    rows = [row(**{column: text}) for text in said]
    result = imported(tmp_path, rows, MAPPING, constants={"fraction": "1"})
    assert result.rejected == ()
    assert result.table.column("bits").to_pylist() == [4, 4, 1.58, 1.58, 1.58, 4, 4, 4, 4, 1, None]
    assert result.table.column("activation_bits").to_pylist() == [None, 4, *[None] * 9]
    assert result.table.column("d_qat").to_pylist() == [10**8] * 10 + [0]
    note = next(note for note in result.notes if note.startswith(f"bits are read from {column}: "))
    assert "W4A4 is 4 and 4, " in note
    assert "bf16 is full precision" in note


def test_activations_of_a_mapped_format_are_kept(tmp_path: Path) -> None:
    rows = [row(fmt="W4A4"), row(fmt="W4A16", val=3.2), row(fmt="W16A16", val=3.0)]
    result = imported(tmp_path, rows, {**MAPPING, "bits": "fmt"}, constants={"fraction": "1"})
    assert result.table.column("bits").to_pylist() == [4, 4, None]
    assert result.table.column("activation_bits").to_pylist() == [4, None, None]


def test_formats_that_are_not_known_are_asked_about(tmp_path: Path) -> None:
    rows = [row(format="int4"), row(format="HiFloat", val=3.2), row(format="fp16", val=3.0)]
    result = imported(tmp_path, rows, MAPPING, constants={"fraction": "1"})
    assert reasons(result) == {2: "bits is 'HiFloat', which names no number of bits"}
    assert result.table.column("bits").to_pylist() == [4, None]


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("quantization", "AWQ"), ("method", "QAT"), ("quantizer", "TrustQuantizer"), ("quantized", True),
        ("recipe", "gptq"), ("w_bits", 4), ("run_name", "llama-30m-int4-s0"), ("quantization", "MyOwn"),
    ],
)  # fmt: skip
def test_quantized_rows_without_bits_are_no_full_precision(tmp_path: Path, column: str, cell: Any) -> None:
    result = imported(tmp_path, [row(), row(**{column: cell})], MAPPING)
    assert set(reasons(result)) == {2}
    assert f"no bits are given, which is full precision, but {column} " in reasons(result)[2]


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("loss_bits", 4.2), ("bits_per_byte", 0.9), ("eval/bits_per_token", 4.1), ("method", "muP"),
        ("scheme", "cosine"), ("kv_bits", 8), ("optimizer", "adam8bit"), ("quantization", "none"), ("quantized", False),
        ("precision", "bf16-mixed"), ("dtype", "torch.bfloat16"), ("run_name", "llama-30m-s0"),
    ],
)  # fmt: skip
def test_other_columns_are_no_formats(tmp_path: Path, column: str, cell: Any) -> None:
    result = imported(tmp_path, [row(), row(**{column: cell}, val=3.5)], MAPPING)
    assert result.rejected == ()
    assert result.table.column("bits").to_pylist() == [None, None]
