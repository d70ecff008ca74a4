"""`qatplan fit`, `compare` and `laws` as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.curves import curve_table

from qatplan import runs
from qatplan.cli.app import main
from qatplan.laws import NAMES, Chinchilla, FittedLaw, Inputs, QatLoss

TRUTH = Chinchilla.published()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Forty full-precision runs of a known law and a few quantized ones."""
    rng = np.random.default_rng(0)
    n = np.exp(rng.uniform(np.log(1e8), np.log(1e10), 40)).astype(np.int64)
    d = (n * np.exp(rng.uniform(np.log(5), np.log(200), 40))).astype(np.int64)
    loss = TRUTH.predict(Inputs.of(n=n, d_total=d)) * np.exp(0.002 * rng.standard_normal(40))
    rows = [
        {"run_id": f"r{i}", "n_total": int(n[i]), "d_total": int(d[i]), "d_fp": int(d[i]), "d_qat": 0,
         "schedule": "full-precision", "loss": float(loss[i]), "status": "finished", "seed": 0}
        for i in range(40)
    ]  # fmt: skip
    rows.append({**rows[0], "run_id": "q", "bits": 4.0, "d_fp": 1, "d_qat": int(d[0]) - 1, "schedule": "classic"})
    path = tmp_path / "runs.parquet"
    runs.write(runs.table(rows), path)
    return path


def test_fit_writes_prints_and_repeats(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "fit.json"
    command = ["fit", str(table), "--law", "chinchilla", "--bootstrap", "100", "--holdout", "top-compute:0.2"]
    assert main([*command, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "alpha" in text
    assert "starts agree" in text
    assert "top-compute:0.2" in text
    assert len(text.splitlines()) <= 35
    assert main([*command, "--out", str(out), "--force", "--details"]) == 0
    assert "1 rows: quantized" in capsys.readouterr().out
    fitted = FittedLaw.read(out)
    assert fitted.rows == 40
    assert fitted.intervals["alpha"][0] < TRUTH.alpha < fitted.intervals["alpha"][1]
    assert main([*command, "--out", str(tmp_path / "again.json"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    again = json.loads((tmp_path / "again.json").read_text())
    assert shown == again
    assert shown["params"] == fitted.params
    assert shown["draws"] == fitted.draws.tolist()  # type: ignore[union-attr]
    assert shown["holdout"]["mape"] < 0.01


def test_an_existing_fit_needs_force_and_other_files_are_never_lost(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, mine = tmp_path / "fit.json", tmp_path / "notes.txt"
    mine.write_text("my notes")
    command = ["fit", str(table), "--law", "chinchilla", "--bootstrap", "0", "--out"]
    assert main([*command, str(out)]) == 0
    assert main([*command, str(out)]) == 2
    assert "--force" in capsys.readouterr().err
    assert main([*command, str(out), "--force"]) == 0
    assert main([*command, str(mine), "--force"]) == 2
    assert "no fit of ours" in capsys.readouterr().err
    assert mine.read_text() == "my notes"


def test_an_untrustworthy_fit_is_printed_and_ends_with_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One model size and one bit width without full precision: nothing separates E from theta."""
    law = QatLoss(
        E=1.8, A=480.0, alpha=0.35, C=2000.0, beta=0.37, theta=0.25, kappa=1.2, phi=4.0, chi=0.7, psi=0.12, omega=0.45,
        lam=2.0, mu=0.6, nu=0.1, xi=0.6, rho=0.15,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    n, d = rng.choice([100_000_000, 300_000_000, 900_000_000], 80), rng.choice([10_000_000_000, 40_000_000_000], 80)
    qat = (d * rng.uniform(0.05, 0.9, 80)).astype(np.int64)
    loss = law.predict(Inputs.of(n=n, d_fp=d - qat, d_qat=qat, bits=4)) * np.exp(0.001 * rng.standard_normal(80))
    rows = [
        {"run_id": f"r{i}", "n_total": int(n[i]), "d_total": int(d[i]), "d_fp": int(d[i] - qat[i]),
         "d_qat": int(qat[i]), "bits": 4.0, "schedule": "classic", "loss": float(loss[i]), "status": "finished"}
        for i in range(80)
    ]  # fmt: skip
    path = tmp_path / "four.parquet"
    runs.write(runs.table(rows), path)
    out = tmp_path / "fit.json"
    assert main(["fit", str(path), "--law", "qat-loss", "--bootstrap", "0", "--out", str(out), "--json"]) == 4
    captured = capsys.readouterr()
    shown = json.loads(captured.out)
    assert shown["status"] == "undetermined"
    assert any("kappa cannot be determined" in s for s in shown["identifiability"])
    assert "not trustworthy" in captured.err
    assert FittedLaw.read(out).status == "undetermined"


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--law", "nonsense"], 2, "no law is called 'nonsense'"),
        (["--law", "chinchilla", "--holdout", "half"], 2, "largest-n"),
        (["--law", "chinchilla", "--fix", "alpha"], 2, "NAME=VALUE"),
        (["--law", "chinchilla", "--fix", "alpha=x"], 2, "alpha is 'x'; a number is needed"),
        (["--law", "qat-loss"], 3, "only 1 row supports the 11 parameters"),
        (["--law", "chinchilla", "--rows", "loss > 100"], 3, "no row can be used"),
    ],
)
def test_mistakes_are_one_sentence(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, said: str
) -> None:
    assert main(["fit", str(table), "--out", str(tmp_path / "f.json"), "--bootstrap", "0", *options]) == code
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "f.json").exists()


def test_profile_intervals_and_fixed_parameters(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "f.json"
    command = ["fit", str(table), "--law", "chinchilla", "--interval", "profile", "--bootstrap", "0"]
    assert main([*command, "--fix", "beta=0.3658", "--out", str(out)]) == 0
    assert "Fixed: beta = 0.3658." in capsys.readouterr().out
    fitted = FittedLaw.read(out)
    assert fitted.interval_kind == "profile"
    assert "beta" not in fitted.intervals
    assert fitted.params["beta"] == 0.3658


def test_compare_ranks(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", str(table), "--rows", "bits is null", "--laws", "chinchilla,chinchilla-per-bits"]
    assert main(command) == 0
    assert "held-out error" in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [e["law"] for e in shown["entries"]]
    assert shown["held_out"] == 8


def test_compare_scores_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "curves.parquet"
    runs.write(curve_table(lambda x: 2 + 0.1 * np.where(x.quantized, x.fraction - 0.3, 0) ** 2), path)
    command = ["compare", str(path), "--score", "split", "--laws", "qat-fraction"]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "Held out by cell: 6 fits a law, 27 curves scored" in text
    assert "published a = 6.7297" in text
    assert main([*command, "--json", "--folds", "4"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [(s["way"], s["folds"]) for s in shown["schemes"]] == [("cell", 4), ("tokens", 5), ("size", 1)]
    assert {e["kind"] for e in shown["in_sample"]["entries"]} == {"law", "rule"}


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (["--score", "splits"], 2, "'splits' is not one of 'loss', 'split'"),
        (["--score", "split"], 3, "no curve of loss against the QAT fraction has 5 fractions"),
        (["--score", "split", "--laws", "chen2025"], 2, "law chen2025 does not depend on the QAT fraction"),
        (["--score", "split", "--holdout", "largest-n"], 2, "holdout has no meaning for score split"),
        (["--folds", "3"], 2, "folds has no meaning for score loss"),
    ],
)
def test_compare_says_what_it_cannot_do(
    table: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, sentence: str
) -> None:
    assert main(["compare", str(table), *options]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert sentence in said.err
    assert said.err.count("\n") == 1


def test_laws_lists_every_law_with_formula_source_and_domain(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["laws", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["laws"]
    assert [law["name"] for law in shown] == list(NAMES)
    assert all(law["formula"] and law["source"] and law["domain"] and law["parameters"] for law in shown)
    assert next(law for law in shown if law["name"] == "qat-loss")["published"] is None
    assert main(["laws", "precision"]) == 0
    assert "2.6745" in capsys.readouterr().out
    assert main(["laws", "nonsense"]) == 2
