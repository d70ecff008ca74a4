"""`qatplan export`: a real, tiny sweep whose models are kept, and what a person may get wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from qatplan import runs
from qatplan.cli.app import main
from qatplan.sweeping import export as exporting
from qatplan.sweeping.folder import SweepFolder
from qatplan.sweeping.specification import read

SPECIFICATION = """
[corpus]
path = "text.txt"
[training]
sequence = 32
sequences = 4
warmup = 256
validation_tokens = 2048
backend = "eager"
keep_models = {keep}
[[grid]]
widths = 16
tokens = 5120
bits = 2
fractions = [0, 0.5]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("export")
    (home / "text.txt").write_text("\n".join(f"The {n} bottles stood on wall {n * 7 % 13}." for n in range(2500)))
    (home / "kept.toml").write_text(SPECIFICATION.format(keep="true"))
    assert main(["sweep", str(home / "kept.toml"), "--out", str(home / "kept"), "--workers", "1"]) == 0
    return home


def run_of(folder: Path, schedule: str) -> str:
    table = runs.select(runs.read([folder / "kept"]), f"schedule == '{schedule}'")
    return str(table.column("run_id")[0].as_py())


@pytest.mark.parametrize("schedule", ["classic", "post-training"])
def test_a_run_becomes_a_file_of_the_loss_and_size_it_should_have(
    schedule: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, run = folder / f"{schedule}.safetensors", run_of(folder, schedule)
    command = ["export", str(folder / "kept.toml"), "--sweep", str(folder / "kept"), "--run", run[:8]]
    assert main([*command, "--out", str(target), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["run_id"] == run
    assert said["bytes"] == target.stat().st_size == pytest.approx(said["predicted_bytes"], rel=0.01)
    assert said["loss"] == pytest.approx(said["recorded_loss"], rel=1e-6)
    assert main([*command, "--out", str(target)]) == 2
    assert "--force overwrites it" in capsys.readouterr().err


def test_a_model_of_another_loss_replaces_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)
    target = folder / "before.safetensors"
    target.write_bytes(b"of before")
    command = ["export", str(folder / "kept.toml"), "--sweep", str(folder / "kept"), "--out", str(target), "--force"]
    assert main([*command, "--run", run_of(folder, "classic")]) == 3
    assert "was not written: the model in it would have a loss of" in capsys.readouterr().err
    assert target.read_bytes() == b"of before"


def test_what_cannot_be_exported_is_said_in_a_sentence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["export", str(folder / "kept.toml"), "--sweep", str(folder / "kept"), "--out", str(folder / "x")]
    assert main([*command, "--run", run_of(folder, "full-precision")]) == 2
    assert "is in full precision and has no integer codes" in capsys.readouterr().err
    assert main([*command, "--run", "nonesuch"]) == 2
    assert "no run of this sweep has an id that begins so" in capsys.readouterr().err
    for file in (folder / "kept" / "segments").iterdir():
        file.unlink()
    assert main([*command, "--run", run_of(folder, "classic")]) == 2
    assert "keep_models = true keeps them" in capsys.readouterr().err
    assert not (folder / "x").exists()


def test_a_sweep_without_its_text_is_refused_and_nothing_is_written_there(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", str(folder / "kept.toml"), "--run", "a", "--out", str(tmp_path / "x"), "--sweep"]
    assert main([*command, str(tmp_path / "mistyped")]) == 2
    assert "mistyped holds no sweep" in capsys.readouterr().err
    shutil.copytree(folder / "kept", tmp_path / "kept")
    (tmp_path / "kept" / "corpus" / "train.bin").write_bytes(b"a user's own")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main([*command, str(tmp_path / "kept")]) == 3
    assert "repeat the sweep command" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_sweep_deletes_states_of_its_own_alone(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "text.txt").write_text((folder / "text.txt").read_text())
    (tmp_path / "sweep.toml").write_text(SPECIFICATION.format(keep="false"))
    (out / "corpus").mkdir(parents=True)
    (out / "corpus" / "train.bin").write_bytes(b"a user's own")
    command = ["sweep", str(tmp_path / "sweep.toml"), "--out", str(out), "--workers", "1"]
    assert main(command) == 2
    assert [path.name for path in out.rglob("*")] == ["corpus", "train.bin"]
    shutil.copytree(folder / "kept" / "segments", tmp_path / "mine" / "segments")
    (tmp_path / "mine" / "segments" / "best.pt").write_bytes(b"a user's own")
    (tmp_path / "mine" / ".notes.tmp").write_bytes(b"a user's own")
    shutil.rmtree(out)
    specification = read(tmp_path / "sweep.toml")
    SweepFolder(out).claim(specification, {}, None)
    shutil.copytree(tmp_path / "mine", out, dirs_exist_ok=True)
    assert main(command) == 0
    assert [path.name for path in (out / "segments").iterdir()] == ["best.pt"]
    assert (out / ".notes.tmp").exists()
