"""`qatplan report`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.report_sweeps import fit_of, write_runs

from qatplan.cli.app import main
from qatplan.laws import Chinchilla, FittedLaw, Status

RANGES = {"n": (1e5, 1e6), "d_total": (1e6, 1e8)}


@pytest.fixture
def fit(tmp_path: Path) -> Path:
    """A fit that takes no time to report on."""
    path = tmp_path / "fit.json"
    FittedLaw(law=Chinchilla.published(), ranges=RANGES, rows=30, noise=0.002).write(path)
    return path


def test_a_page_and_what_it_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(tmp_path / "runs.parquet")
    fit_of(tmp_path / "runs.parquet").write(tmp_path / "fit.json")
    out = tmp_path / "page.html"
    assert main(["report", str(tmp_path / "fit.json"), "--params", "60K", "--out", str(out), "--json"]) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert told["out"] == str(out)
    assert told["bytes"] == out.stat().st_size
    assert told["plan"]["choice"]["params"] == 60_000
    assert told["figures"][0] == "parameters"
    assert told["runs_are_those_of_the_fit"] is True
    assert "named by the fit" in said.err


def test_our_own_page_is_replaced_and_no_other(tmp_path: Path, fit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    assert main(["report", str(fit), "--out", str(out)]) == 0
    first = out.read_bytes()
    assert main(["report", str(fit), "--out", str(out)]) == 0
    assert out.read_bytes() == first
    out.write_text("<p>mine</p>")
    capsys.readouterr()
    assert main(["report", str(fit), "--out", str(out)]) == 2
    assert "exists; --force overwrites it." in capsys.readouterr().err
    assert out.read_text() == "<p>mine</p>"
    assert main(["report", str(fit), "--out", str(out), "--force"]) == 0
    assert out.read_bytes() == first


@pytest.mark.parametrize(("name", "word"), [("page.pdf", "must end in .html"), ("folder.html", "is a folder")])
def test_targets_that_cannot_be(
    name: str, word: str, tmp_path: Path, fit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.html").mkdir()
    assert main(["report", str(fit), "--out", str(tmp_path / name)]) == 2
    assert word in capsys.readouterr().err


def test_a_doubtful_fit_has_its_page_and_ends_with_4(
    tmp_path: Path, fit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    law = Chinchilla.published()
    FittedLaw(law=law, ranges=RANGES, rows=30, noise=0.002, status=Status.NOT_CONVERGED).write(fit)
    out = tmp_path / "page.html"
    assert main(["report", str(fit), "--out", str(out), "--json"]) == 4
    said = capsys.readouterr()
    assert json.loads(said.out)["status"] == "not-converged"
    assert "the fit is not trustworthy" in said.err
    assert "Warning: not to be relied upon" in out.read_text(encoding="utf-8")


def test_what_is_no_fit_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "fit.json").write_text("{}")
    assert main(["report", str(tmp_path / "fit.json"), "--out", str(tmp_path / "page.html")]) == 3
    assert "is not a qatplan fit" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


def test_a_fraction_law_beside_a_loss_law_without_any_optimum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where all optima of the loss law lie at an end, no `a` can be fitted to them, and the fit holds none."""
    fit = Path(__file__).parents[2] / "fits" / "qat-fraction.json"
    assert json.loads(fit.read_text())["criticism"]["loss_law"]["a"] is None
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fit.json").write_bytes(fit.read_bytes())
    assert main(["report", "fit.json", "--out", "page.html"]) == 0
    assert "the runs were not found" in capsys.readouterr().err
    assert "curves of loss against the fraction have a minimum inside" in Path("page.html").read_text(encoding="utf-8")
