"""A fit that somebody else made: what it names is not contacted, its secrets are not passed on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qatplan.cli.app import main
from qatplan.laws.fitted import FittedLaw
from qatplan.storage import open as opening


@pytest.fixture
def fit(tmp_path: Path) -> Path:
    """A fit that names a store with credentials in its address."""
    value = json.loads(Path("fits/qat-loss.json").read_text())
    value["provenance"] |= {
        "sources": ["s3://KEY:SECRET@bucket/runs?token=HIDDEN"],
        "command": "qatplan fit s3://KEY:SECRET@bucket/runs --out fit.json",
    }
    (tmp_path / "fit.json").write_text(json.dumps(value))
    return tmp_path / "fit.json"


@pytest.fixture
def contacts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    monkeypatch.setattr(opening, "ObjectStorage", lambda url: seen.append(url))
    return seen


def test_a_store_that_a_fit_names_is_not_contacted(
    fit: Path, contacts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plot", "frontier", str(fit), "--out", str(tmp_path / "a.svg")]) == 0
    said = capsys.readouterr().err
    assert "names runs at s3://bucket/runs, which are only opened where --runs asks for it" in said
    assert main(["plot", "residuals", str(fit), "--out", str(tmp_path / "b.svg")]) == 2
    assert main(["report", str(fit), "--out", str(tmp_path / "c.html")]) in (0, 4)
    said += capsys.readouterr().err + (tmp_path / "c.html").read_text()
    assert not contacts
    assert "SECRET" not in said
    assert "HIDDEN" not in said
    FittedLaw.read(fit).write(tmp_path / "again.json")
    assert "SECRET" not in (tmp_path / "again.json").read_text()


def test_runs_that_a_fit_names_and_that_are_of_no_use_are_no_error(
    fit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = json.loads(fit.read_text())
    value["provenance"]["sources"] = ["runs.parquet"]
    fit.write_text(json.dumps(value))
    (tmp_path / "runs.parquet").write_bytes(b"damaged")
    assert main(["plot", "frontier", str(fit), "--out", str(tmp_path / "a.svg")]) == 0
    assert "cannot be used" in capsys.readouterr().err
    assert main(["plot", "frontier", str(fit), "--runs", str(tmp_path / "runs.parquet"), "--out", "b.svg"]) == 3
