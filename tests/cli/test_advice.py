"""What a message advises works: the command in it, or the option that it names."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from qatplan.cli.app import main

FULL = "n_params,d_total,loss\n"
SIZES, BUDGETS = (1e6, 2e6, 4e6, 8e6), (2e7, 5e7, 1e8, 3e8)
ASKED = ["--params", "1M", "--tokens", "100M"]


def loss(n: float, d: float) -> float:
    return float(1.7 + 400 / n**0.34 + 2000 / d**0.36)


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """fp.csv has full-precision runs alone, scratch.csv runs quantized from the start alone."""
    monkeypatch.chdir(tmp_path)
    points = [(n, d) for n in SIZES for d in BUDGETS]
    full = [f"{n:.0f},{d:.0f},{loss(n, d) * (1 + 0.001 * (-1) ** i):.5f}" for i, (n, d) in enumerate(points)]
    (tmp_path / "fp.csv").write_text(FULL + "\n".join(full))
    quantized = [
        f"{n:.0f},{d:.0f},{d:.0f},{b},{loss(n, d) + 0.5 * 2**-b + 3 * 2**-b * n**-0.1 * d**-0.05:.5f}"
        for n, d in points
        for b in (2, 3, 4)
    ]
    (tmp_path / "scratch.csv").write_text("n_params,d_total,d_qat,bits,loss\n" + "\n".join(quantized))
    return tmp_path


def refused(command: list[str], capsys: pytest.CaptureFixture[str], code: int) -> str:
    capsys.readouterr()
    assert main(command) == code
    error = capsys.readouterr().err
    assert max(map(len, error.splitlines())) <= 260
    return error


@pytest.mark.parametrize("table", ["fp.csv", "scratch.csv"])
def test_the_option_that_a_fit_advises_is_enough(table: str, tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["fit", table, "--law", "qat-loss", "--bootstrap", "0", "--out", "fit.json"]
    error = refused(command, capsys, 3)
    advised = re.findall(r"--[a-z]+", error)
    assert advised == ["--restrict"]
    assert main([*command, *advised]) in (0, 4)
    assert json.loads(Path("fit.json").read_text())["law"] == "qat-loss"


def test_a_full_precision_fit_sends_nobody_round_in_circles(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "fp.csv", "--law", "chinchilla", "--bootstrap", "0", "--out", "fit.json"]) in (0, 4)
    error = refused(["recommend", "fit.json", *ASKED, "--bits", "4"], capsys, 2)
    assert "qatplan predict gives its losses without --bits" in error
    assert main(["predict", "fit.json", *ASKED]) == 0
    assert "--law qat-fraction alone" in error
    assert main(["recommend", "--law", "qat-fraction", *ASKED, "--bits", "4"]) == 0
    for kind in ("contours", "frontier"):
        error = refused(["plot", kind, "fit.json", "--out", "x.svg"], capsys, 2)
        assert "full-precision runs alone" in error
        assert "again" not in error


def test_what_is_missing_comes_at_once_and_as_options_that_work(
    tables: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "c" * 300
    Path("theirs.csv").write_text(f"params,tokens,val/loss,{long}\n1000000,20000000,3.2,1\n2000000,20000000,3.0,1\n")
    error = refused(["import", "theirs.csv", "--map", "seed=params"], capsys, 2)
    assert "its columns are params, tokens, val/loss and 1 more" in error
    advised = re.findall(r"--map \w+=\S+(?= looks right)", error)
    assert len(advised) == 3 - error.count("=COLUMN")
    given = [word for option in advised for word in shlex.split(option)]
    given += ["--map", "loss=val/loss"] * ("loss=COLUMN" in error)
    assert main(["import", "theirs.csv", "--out", "a.parquet", *given]) == 0


def test_the_command_that_a_proposal_prints_runs(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("iso.csv").write_text("N,flops,val_loss\n1000000,1e15,3.4\n2000000,1e15,3.3\n4000000,1e15,3.35\n")
    capsys.readouterr()
    assert main(["import", "iso.csv", "--json"]) == 2
    program, *command = shlex.split(json.loads(capsys.readouterr().out)["command"])
    assert program == "qatplan"
    assert main(command) == 0
