"""`qatplan predict` as scripts and people meet it."""

import json
from pathlib import Path

import pytest

from qatplan.cli.app import main
from qatplan.laws import Chinchilla, FittedLaw


@pytest.fixture
def fit(tmp_path: Path) -> str:
    """The corrected Chinchilla fit of arXiv 2404.10102; its range is invented for the test."""
    path = tmp_path / "fit.json"
    law = Chinchilla(E=1.8172, A=482.01, C=2085.43, alpha=0.3478, beta=0.3658)
    FittedLaw(law=law, ranges={"n": (1e8, 1e10), "d_total": (1e9, 1e12)}).write(path)
    return str(path)


def test_full_precision_loss(fit: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", fit, "--params", "1.5B", "--tokens", "300B", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["loss"] == pytest.approx(1.8172 + 482.01 / 1.5e9**0.3478 + 2085.43 / 3e11**0.3658)
    assert said["loss_interval"] is None
    assert said["params"] == 1_500_000_000
    assert main(["predict", fit, "--params", "1.5B", "--tokens", "300B"]) == 0
    assert "mean of such runs                 2.259" in capsys.readouterr().out


def test_far_outside_exits_with_4(fit: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", fit, "--params", "1.5T", "--tokens", "300B", "--json"]) == 4
    captured = capsys.readouterr()
    assert json.loads(captured.out)["status"] == "extrapolates"
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tokens", "1B"], "--params"),
        (["--params", "1B", "--tokens", "4GB"], "number of bytes"),
        (["--params", "1B", "--tokens", "1B", "--bits", "0"], "bits is 0"),
        (["--params", "1B", "--tokens", "1B", "--bits", "nan"], "bits is nan"),
        (["--params", "1B", "--tokens", "1B", "--bits", "4"], "knows no bit width"),
        (["--params", "1B", "--tokens", "1B", "--fraction", "0.5"], "needs bits"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_2(
    fit: str, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", fit, *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert words in captured.err


def test_bits_per_byte_stand_beside_nats_per_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    law = Chinchilla(E=1.8172, A=482.01, C=2085.43, alpha=0.3478, beta=0.3658)
    path = tmp_path / "four.json"
    FittedLaw(law=law, bytes_per_token=4.0, ranges={"n": (1e8, 1e10), "d_total": (1e9, 1e12)}).write(path)
    assert main(["predict", str(path), "--params", "1.5B", "--tokens", "300B"]) == 0
    said = capsys.readouterr().out
    loss = 1.8172 + 482.01 / 1.5e9**0.3478 + 2085.43 / 3e11**0.3658
    assert "bits per byte" in said
    assert f"{loss / (4 * 0.6931471805599453):.3f}" in said
