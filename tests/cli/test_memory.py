"""`qatplan memory` as scripts and people meet it."""

import json
from pathlib import Path

import pytest

from qatplan.cli.app import main

LLAMA = {
    "model_type": "llama", "num_hidden_layers": 16, "hidden_size": 2048, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 8192, "vocab_size": 128256,
    "tie_word_embeddings": True,
}  # fmt: skip
FLAGS = ["--layers", "16", "--width", "2048", "--heads", "32", "--kv-heads", "8", "--feed-forward", "8192",
         "--vocabulary", "128256"]  # fmt: skip


def ask(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert main(["memory", *arguments, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    said = json.loads(captured.out)
    assert isinstance(said, dict)
    return said


def test_preset_config_and_flags_are_one_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(LLAMA))
    preset = ask(["llama-3.2-1b", "--format", "Q2_K"], capsys)
    assert {"weights_bytes", "kv_bytes", "total_bytes", "items", "bits_per_weight"} <= preset.keys()
    assert preset["weights_bytes"] == pytest.approx(580_873_408, rel=2e-4)
    assert any("huggingface.co/meta-llama/Llama-3.2-1B" in str(line) for line in preset["assumptions"])  # type: ignore[attr-defined]
    own = ("model", "assumptions")
    for other in ([str(config)], [str(tmp_path)], FLAGS):
        same = ask([*other, "--format", "Q2_K"], capsys)
        assert {k: v for k, v in same.items() if k not in own} == {k: v for k, v in preset.items() if k not in own}


def test_context_batch_and_cache_format(capsys: pytest.CaptureFixture[str]) -> None:
    plain = ask(["llama-3.1-8b", "--format", "int4:g128", "--context", "8192"], capsys)
    assert plain["kv_bytes"] == 2**30
    small = ask(["llama-3.1-8b", "--context", "4096", "--batch", "4", "--kv-format", "q4_0"], capsys)
    assert small["kv_bytes"] == 2 * 2**30 * 4.5 / 16


def test_table_for_people_and_inferred_shape(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", "--params", "1.5B"]) == 0
    out = capsys.readouterr().out
    assert "Inferred from the number of parameters" in out
    assert "total" in out
    assert "bytes" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gpt-9"], "nor one of the models known here"),
        (["nowhere/config.json"], "does not exist"),
        ([], "the model's shape lacks --layers"),
        (["llama-3.2-1b", "--params", "1B"], "not both"),
        (["--params", "1B", "--layers", "3"], "not both"),
        (["--params", "1B", "--kv-heads", "3"], "kv-heads is given too"),
        (["--params", "4GB"], "number of bytes"),
        (["--params", "100"], "at least 1000 parameters"),
        (["--params", "nan"], "'nan'"),
        (["--params", "1B", "--format", "Q4_K_M"], "needs the model's shape"),
        (["llama-3.2-1b", "--format", "Q4_9"], "is not known"),
        (["llama-3.2-1b", "--kv-format", "q9"], "kv format"),
        (["llama-3.2-1b", "--context", "0"], "context"),
        ([*FLAGS, "--heads", "0"], "heads is 0"),
        ([*FLAGS, "--heads", "7"], "does not divide"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["memory", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert words in captured.err


def test_a_broken_config_is_unusable_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.json"
    for text in ("{", "[1]"):
        path.write_text(text)
        assert main(["memory", str(path)]) == 3
        assert "config.json" in capsys.readouterr().err
