"""Files whose fields are of another type end a command with one sentence that names the field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.specifications import written

from qatplan.cli.app import main

HUGE = 10**400


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("level",), "a", "level is 'a', which is not a finite number"),
        (("level",), 1.5, "level is 1.5"),
        (("rows",), HUGE, "rows is a number of too many digits, which is not a whole number"),
        (("rows",), True, "rows is True"),
        (("intervals",), [], "intervals is a list, which is not an object"),
        (("intervals", "E"), [1], "intervals.E is a list, which is not a list of 2"),
        (("ranges", "n"), [1, float("inf")], "ranges.n[1] is inf"),
        (("ranges", "n"), [5, 1], "before it begins"),
        (("certificate", "scaled_gradient"), {}, "certificate.scaled_gradient is a table"),
        (("certificate",), None, "certificate is no object"),
        (("provenance", "sources"), "runs", "provenance.sources is 'runs', which is not a list"),
        (("draws",), [["1"]], "draws must be a list of lists"),
        (("law",), ["qat-loss"], "law is missing or no text"),
        (("params",), None, "params is no object"),
        (("flags",), [None], "flags[0] is None, which is not text"),
    ],
)
def test_a_fit(
    path: tuple[str, ...], value: Any, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = json.loads(Path("fits/qat-loss.json").read_text())
    inner = fit
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    (tmp_path / "fit.json").write_text(json.dumps(fit))
    assert main(["predict", str(tmp_path / "fit.json"), "--params", "1M", "--tokens", "1B"]) == 3
    said = capsys.readouterr().err
    assert "is a damaged fit: " in said
    assert words in said


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("seeds = nan", "seeds nan is not a whole number"),
        ("seeds = inf", "seeds inf is not"),
        (f"seeds = {'9' * 5000}", "is not valid TOML"),
        (f"seeds = {'9' * 4000}", "seeds 9999"),
        (f"seeds = {'[' * 100_000}", "is nested too deeply"),
        ("tokens_per_parameter = [nan]", "tokens_per_parameter nan"),
        ("group_sizes = 1e300", "group_sizes 1e+300 is not"),
        ("qat_learning_rates = {nan = 1}", "is not a bit width"),
        (f"seeds = {list(range(2000))}\ntransition_rates = {[i / 1e3 for i in range(1000)]}", "points, more than"),
    ],
)  # fmt: skip
def test_a_specification(line: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, f"[[grid]]\nwidths = 16\ntokens = 5120\n{line}\n")
    assert main(["sweep", str(path), "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert len(said) < 1000


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_specification_in_another_encoding(encoding: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.toml").write_bytes('[corpus]\npath = "é"'.encode(encoding))
    assert main(["sweep", str(tmp_path / "a.toml"), "--dry-run"]) == 2
    assert "is not UTF-8 text at byte" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x" * 300, "a\\u0000b"])
def test_a_text_with_a_name_that_no_file_has(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.toml").write_text(f'[corpus]\npath = "{name}"\n[[grid]]\nwidths = 16\ntokens = 5120\n')
    assert main(["sweep", str(tmp_path / "a.toml"), "--dry-run"]) in (2, 3)
    assert "corpus.path" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["num_hidden_layers", "hidden_size", "vocab_size"])
@pytest.mark.parametrize("value", [HUGE, 10**10, 1.5, None, "a", float("nan")])
def test_a_configuration(key: str, value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {
        "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2,
        "intermediate_size": 128, "vocab_size": 100, key: value,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert main(["memory", str(tmp_path / "config.json")]) == 2
    assert f"{key} is " in capsys.readouterr().err


def test_work_does_not_grow_with_the_layers_that_a_file_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["memory", "--layers", "1000000000", "--width", "64", "--heads", "2", "--feed-forward", "128"]
    assert main([*command, "--vocabulary", "100"]) == 2
    assert "layers is 1000000000, but it must be a whole number from 1 to 10000" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"\xfa,loss\n1,2\n", b"run_id,lo\xfass\na,2\n"])
def test_a_table_whose_columns_are_not_utf_8(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs.csv").write_bytes(content)
    for command in (["runs"], ["compare"], ["fit", "--out", str(tmp_path / "fit.json")]):
        assert main([*command, str(tmp_path / "runs.csv")]) == 3
        assert "runs.csv has a column whose name is not UTF-8 text; save the" in capsys.readouterr().err
