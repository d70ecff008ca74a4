"""A lost or damaged sweep.json strands no finished run: it is made again where the files prove whose they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.specifications import written

from qatplan.cli.app import main

EMPTY: dict[str, object] = {"corpus": {}, "training": {}, "grids": []}
GRID = "[[grid]]\nwidths = 16\ntokens = 5120\nbits = 2\nfractions = [0, 0.5]\n"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a specification and its finished sweep."""
    home = tmp_path_factory.mktemp("sweep")
    assert main(["sweep", str(written(home, GRID)), "--out", str(home / "out"), "--workers", "1"]) == 0
    return home


@pytest.fixture
def home(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"specification": 1}', b"\xff\xfe"])
def test_it_is_made_again_and_said(
    home: Path, finished: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    written(home, GRID)
    (home / "out" / "fit.json").write_text("{}")
    record = home / "out" / "sweep.json"
    if content is None:
        record.unlink()
    else:
        record.write_bytes(content)
    command = ["sweep", str(home / "sweep.toml"), "--out", str(home / "out"), "--workers", "1", "--json"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["new_runs"] == 0
    assert f"was {'missing' if content is None else 'damaged'}; it is made again" in said.err
    made, before = (json.loads((place / "out" / "sweep.json").read_text()) for place in (home, finished))
    assert made["corpus"] == before["corpus"]
    assert made["backends"] == before["backends"]
    assert (home / "out" / "sweep.json.damaged").exists() == (content is not None)


def test_runs_of_another_specification_prove_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(home, GRID.replace("5120", "10240"))
    (home / "out" / "sweep.json").unlink()
    before = {path: path.read_bytes() for path in (home / "out").rglob("*") if path.is_file()}
    assert main(["sweep", str(home / "sweep.toml"), "--out", str(home / "out"), "--workers", "1"]) == 2
    assert "is none of this specification" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (home / "out").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("record", "field"),
    [
        ({"specification": EMPTY | {"training": []}, "numerics": "1", "backends": {}}, "training"),
        ({"specification": EMPTY | {"grids": [1]}, "numerics": "1", "backends": {}}, "grids"),
        ({"specification": None, "numerics": "1", "backends": {}}, "specification"),
        ({"specification": EMPTY, "numerics": 1, "backends": {}}, "numerics"),
        ({"specification": EMPTY, "numerics": "1", "backends": {"a": "b"}}, "width"),
    ],
)  # fmt: skip
def test_the_field_that_is_wrong_is_named(
    home: Path, record: object, field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "out" / "sweep.json").write_text(json.dumps(record))
    command = ["export", str(home / "sweep.toml"), "--sweep", str(home / "out"), "--run", "a", "--out", "x.safetensors"]
    assert main(command) == 3
    assert field in capsys.readouterr().err
