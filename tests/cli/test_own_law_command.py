"""A law of one's own through the command line: every command, and a fit that needs its file no more."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import pytest

from qatplan.cli.app import main

ROOT = Path(__file__).parents[2]
MAIN, SURFACE = str(ROOT / "data" / "main"), str(ROOT / "fits" / "fraction-surface.json")
LAW = """
name = "two-phase"
formula = "E + A/N^alpha + C/(D_fp + eta*D_qat)^beta + quantized*r*2^(-c*bits)/(D_qat/N)^omega"
[parameters]
E = {domain = [0, inf], unit = "nats/token", meaning = "loss that nothing removes"}
A = {domain = [0, inf], unit = "nats/token * parameters^alpha", meaning = "scale of the loss from finite size"}
alpha = {domain = [0, 3], start = [0.1, 1], unit = "1", meaning = "exponent of size"}
C = {domain = [0, inf], unit = "nats/token * tokens^beta", meaning = "scale of the loss from finite data"}
beta = {domain = [0, 3], start = [0.1, 1], unit = "1", meaning = "exponent of tokens"}
eta = {domain = [0.01, 10], start = [0.2, 1.2], scale = "log", unit = "1", meaning = "worth of a QAT token"}
r = {domain = [0, inf], unit = "nats/token", meaning = "scale of the loss from rounding"}
c = {domain = [-1, 8], start = [0.3, 3], unit = "1/bit", meaning = "halvings of it per bit"}
omega = {domain = [0, 4], start = [0.1, 1.2], unit = "1", meaning = "exponent of QAT tokens in the recovery"}
"""


def run(*arguments: object, codes: tuple[int, ...] = (0,)) -> str:
    """What a command prints; it ends with one of `codes`."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main([str(argument) for argument in arguments]) in codes
    return out.getvalue()


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit whose law's file is gone."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "law.toml").write_text(LAW)
    out = folder / "fit.json"
    few = ("--rows", "bits is null or bits in (2, 4) and schedule == 'classic'", "--bootstrap", 40)
    run("fit", MAIN, "--law", folder / "law.toml", *few, "--holdout", "largest-d", "--out", out)
    (folder / "law.toml").unlink()
    return out


def test_the_fit_says_its_law(fitted: Path) -> None:
    stored = json.loads(fitted.read_text())
    assert (stored["law"], stored["status"], stored["starts_agreeing"] >= 3) == ("two-phase", "good", True)
    assert stored["definition"]["formula"].startswith("E + A/N^alpha")
    assert stored["definition"]["parameters"][0]["domain"] == [0.0, None]
    assert stored["holdout"]["mape"] > 0
    low, high = stored["intervals"]["eta"]
    assert 0.01 < low < stored["params"]["eta"] < high < 10


def test_it_predicts_recommends_and_designs(fitted: Path) -> None:
    asked = ("--params", "100K", "--tokens", "4M", "--bits", 4)
    predicted = json.loads(run("predict", fitted, *asked, "--json"))
    assert predicted["loss_interval"][0] < predicted["loss"] < predicted["loss_interval"][1]
    assert 0 < predicted["optimal_fraction"] < 1
    small = (*asked, "--vocabulary", 256, "--context", 128, "--json")
    plan = json.loads(run("recommend", fitted, *small, "--split", SURFACE, codes=(0, 4)))
    assert plan["law"] == "two-phase"
    assert 0 < plan["choice"]["fraction"] < 1
    made = run(
        "design", fitted, "--budget", "1e13", "--params", "100K", "--tokens", "4M", "--bits", 4, "--runs", 2, "--json"
    )
    assert len(json.loads(made)["runs"]) == 2


@pytest.mark.parametrize("kind", ["parameters", "residuals"])
def test_it_is_drawn(kind: str, fitted: Path, tmp_path: Path) -> None:
    run("plot", kind, fitted, "--out", tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").read_text().startswith("<?xml")


def test_laws_are_compared_by_loss_and_by_split(tmp_path: Path) -> None:
    (tmp_path / "law.toml").write_text(LAW)
    laws = f"effective,{tmp_path}/law.toml"
    entries = json.loads(run("compare", MAIN, "--laws", laws, "--json"))["entries"]
    assert {entry["law"] for entry in entries} == {"effective", "two-phase"}
    laws = f"qat-fraction,{tmp_path}/law.toml"
    assert "two-phase" in run(
        "compare", MAIN, "--score", "split", "--laws", laws, "--folds", 2, "--rows", "bits == 4 or bits is null"
    )
    assert "L = E + A/N^alpha" in run("laws", tmp_path / "law.toml")


def test_mistakes_end_with_the_code_of_their_kind(tmp_path: Path) -> None:
    place, out = tmp_path / "law.toml", tmp_path / "fit.json"
    run("fit", MAIN, "--law", place, "--out", out, codes=(2,))
    place.write_text(LAW.replace("eta*D_qat", "etta*D_qat"))
    run("fit", MAIN, "--law", place, "--out", out, codes=(2,))
    place.write_text(LAW.replace("(D_qat/N)^omega", "(G*D_qat/N)^omega").replace("A/N^alpha", "A/(N*G)^alpha"))
    run("fit", MAIN, "--law", place, "--out", out, codes=(3,))
    assert not out.exists()
