"""`qatplan plot`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.figure_sweeps import TRUTH, simulated_rows

from qatplan import runs
from qatplan.cli.app import main
from qatplan.figures.make import KINDS
from qatplan.fitting.provenance import provenance
from qatplan.fitting.rows import select
from qatplan.laws.fitted import FittedLaw
from qatplan.laws.qat_fraction import QatFraction
from qatplan.laws.qat_loss import QatLoss

SIZES, RATIOS = (32_000, 96_000), (30.0, 300.0)
RANGES = {"n": (32e3, 350e3), "d_total": (9.6e5, 1.05e8), "bits": (1.0, 4.0), "fraction": (0.01, 0.75)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of runs, a fit of it, and a fit that names no runs."""
    path = tmp_path_factory.mktemp("plot")
    table = runs.table(simulated_rows(SIZES, RATIOS))
    runs.write(table, path / "runs.parquet")
    chosen = select(table, "qat-loss", shape=QatLoss)
    made = provenance(chosen, seed=0, sources=["runs.parquet"], command=None, rows=None)
    draws = np.array(list(TRUTH.params().values())) * (1 + 0.01 * np.random.default_rng(0).standard_normal((30, 16)))
    intervals = {name: (0.9 * v, 1.2 * v) for name, v in TRUTH.params().items()}
    fit = FittedLaw(law=TRUTH, draws=draws, intervals=intervals, interval_kind="bootstrap", noise=0.0015, ranges=RANGES,
                    provenance=made)  # fmt: skip
    fit.write(path / "fit.json")
    FittedLaw(law=TRUTH, ranges=RANGES).write(path / "bare.json")
    FittedLaw(law=QatFraction(a=5.0), ranges=RANGES).write(path / "fraction.json")
    return path


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "split"])
def test_every_kind_from_a_fit_that_names_its_runs(
    kind: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / f"{kind}.svg"
    assert main(["plot", kind, str(folder / "fit.json"), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == f"wrote {out}"
    assert ("named by the fit" in said.err) == (kind != "parameters")
    title = said.out.splitlines()[1].strip()
    assert title.split(":")[0][:40].replace("&", "&amp;") in out.read_text()


@pytest.mark.parametrize(("kind", "suffix"), [("loss-curves", ".png"), ("fraction", ".pdf")])
def test_kinds_from_runs_alone(kind: str, suffix: str, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / f"figure{suffix}"
    assert main(["plot", kind, str(folder / "runs.parquet"), "--out", str(out)]) == 0
    assert out.stat().st_size > 5000


def test_runs_beside_a_fit_and_rows(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["plot", "loss-curves", str(folder / "bare.json"), "--runs", str(folder / "runs.parquet"), "--json"]
    rows = ["--rows", "bits == 4 or bits is null", "--params", "96K"]
    assert main([*command, *rows, "--out", str(tmp_path / "a.svg")]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["kind"] == "loss-curves"
    (row,) = shown["series"]["rows"]
    assert [(panel["n"], panel["bits"]) for panel in row] == [(96000.0, 4.0)]
    assert all(curve["fitted"]["optimum"] > 0 for curve in row[0]["curves"])


def test_training_curves(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.svg"
    assert main(["plot", "loss-curves", str(folder / "runs.parquet"), "--training", "--out", str(out)]) == 0
    assert "Loss along training" in out.read_text()


def test_same_command_gives_same_file(folder: Path, tmp_path: Path) -> None:
    for name in ("a.pdf", "b.pdf"):
        assert main(["plot", "frontier", str(folder / "fit.json"), "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()


def test_other_runs_than_those_of_the_fit_are_remarked(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "a.svg")
    both = [str(folder / "fit.json"), "--runs", str(folder / "runs.parquet"), "--out", out]
    assert main(["plot", "residuals", *both]) == 0
    assert "not exactly those" not in capsys.readouterr().err
    assert main(["plot", "residuals", *both, "--rows", "n_total > 50000"]) == 2
    assert "--force overwrites it" in capsys.readouterr().err
    assert main(["plot", "residuals", *both, "--rows", "n_total > 50000", "--force"]) == 0
    assert "not exactly those" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["pie", "runs.parquet", "--out", "a.svg"], 2, "choose one of loss-curves, fraction, contours"),
        (["fraction", "runs.parquet", "--out", "a.jpg"], 2, "must end in .svg, .pdf or .png"),
        (["contours", "runs.parquet", "--out", "a.svg"], 2, "contours is drawn from a fit, and a table of runs"),
        (["residuals", "runs.parquet", "--out", "a.svg"], 2, "residuals is drawn from a fit"),
        (["residuals", "bare.json", "--out", "a.svg"], 2, "only a fit was given; add --runs"),
        (["loss-curves", "bare.json", "--out", "a.svg"], 2, "only a fit was given; add --runs"),
        (["contours", "fraction.json", "--out", "a.svg"], 2, "qat-fraction gives no loss that depends"),
        (["frontier", "fraction.json", "--out", "a.svg"], 2, "qat-fraction gives no loss that depends"),
        (["residuals", "fraction.json", "--runs", "runs.parquet", "--out", "a.svg"], 2, "predicts a QAT fraction"),
        (["contours", "bare.json", "--bits", "2,4", "--out", "a.svg"], 2, "contours show one bit width"),
        (["loss-curves", "runs.parquet", "--bits", "7", "--out", "a.svg"], 2, "the table has 1, 2, 4"),
        (["loss-curves", "runs.parquet", "--params", "5M", "--out", "a.svg"], 3, "table's sizes are 32K, 96K."),
        (["loss-curves", "runs.parquet", "--rows", "bits == 7", "--out", "a.svg"], 3, "no run is left to draw"),
        (["fraction", "bare.json", "fraction.json", "--out", "a.svg"], 2, "2 JSON files were given"),
        (["fraction", "bare.json", "--runs", "fraction.json", "--out", "a.svg"], 2, "is a JSON file; runs are"),
        (["contours", "missing.json", "--out", "a.svg"], 3, "missing.json"),
        (["contours", "bare.json"], 2, "--out"),
    ],
)  # fmt: skip
def test_one_sentence_for_what_cannot_be_drawn(
    arguments: list[str], code: int, words: str, folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(folder)
    assert main(["plot", *arguments]) == code
    said = capsys.readouterr()
    assert words in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert said.out == ""
    assert not (folder / "a.svg").exists()


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", "--help"]) == 0
    assert "Example: qatplan plot loss-curves" in capsys.readouterr().out


def test_residuals_are_of_the_rows_that_the_fit_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An amplitude fixed at 0 widens the law's domain: those rows were fitted, so they belong into the figure."""
    table = runs.table(simulated_rows(SIZES, RATIOS))
    runs.write(table, tmp_path / "runs.parquet")
    law = TRUTH.replace({"phi": 0.0, "lam": 0.0})
    chosen = select(table, "qat-loss", shape=QatLoss, fix={"phi": 0.0, "lam": 0.0})
    assert len(chosen) > len(select(table, "qat-loss", shape=QatLoss))
    made = provenance(chosen, seed=0, sources=["runs.parquet"], command=None, rows=None)
    intervals = {name: (0.9 * v, 1.2 * v) for name, v in law.params().items() if v}
    FittedLaw(law=law, intervals=intervals, rows=len(chosen), noise=0.0015, ranges=RANGES, provenance=made).write(
        tmp_path / "fit.json"
    )
    out = str(tmp_path / "a.svg")
    assert main(["plot", "residuals", str(tmp_path / "fit.json"), "--out", out, "--json"]) == 0
    told = capsys.readouterr()
    assert len(json.loads(told.out)["series"]["points"]) == len(chosen)
    assert "not exactly those" not in told.err
