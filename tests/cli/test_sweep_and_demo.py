"""`qatplan sweep --dry-run`, `qatplan quantizers` and the demo's care for what is already there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qatplan.cli.app import main

SPECIFICATION = """
[corpus]
path = "text.txt"
[training]
sequence = 32
sequences = 8
validation_tokens = "2K"
[[grid]]
widths = 16
tokens = "25600"
bits = 4
fractions = 0.4
"""


@pytest.fixture
def specification(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text("\n".join(f"{n} green bottles on the wall." for n in range(3000)))
    path = tmp_path / "sweep.toml"
    path.write_text(SPECIFICATION)
    return path


def test_dry_run_counts_and_writes_nothing(specification: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(specification.parent.iterdir())
    assert main(["sweep", str(specification), "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    # 100 steps of 256 tokens: trunk 80, cooldowns 12 and 20, QAT 40, against 200 from scratch.
    assert found["tokens"] == 152 * 256
    assert found["tokens_from_scratch"] == 200 * 256
    assert found["share_of_from_scratch"] == pytest.approx(0.76)
    assert found["runs"] == 2
    assert found["seconds"] > 0
    assert sorted(specification.parent.iterdir()) == before
    assert main(["sweep", str(specification), "--dry-run"]) == 0
    assert "76.0% of that" in capsys.readouterr().out


def test_dry_run_counts_controls_cooldowns_and_decays(specification: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = specification.read_text().replace(
        "bits = 4", "bits = [4, 16]\ncooldowns = [0.2, 0.5]\nqat_decays = [1, 0.5]"
    )
    specification.write_text(text)
    assert main(["sweep", str(specification), "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    # Two controls, and for each cooldown and decay a run of either bit width.
    assert found["runs"] == 2 + 2 * 2 * 2
    # Trunk 80 of 100 steps, cooldowns 12 and 30 of 60 steps and 20 and 50 of 100, eight second phases of 40.
    assert found["tokens"] == (80 + 12 + 30 + 20 + 50 + 8 * 40) * 256


def test_out_is_needed(specification: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", str(specification)]) == 2
    assert "--out is missing" in capsys.readouterr().err


def test_cuda_is_refused_where_there_is_none(specification: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    if torch.cuda.is_available():
        assert main(["sweep", str(specification), "--dry-run", "--device", "cuda"]) == 0
    else:
        assert main(["sweep", str(specification), "--dry-run", "--device", "cuda"]) == 2
        assert capsys.readouterr().err == (
            "qatplan: device cuda is not available on this machine; allowed here: auto, cpu.\n"
        )


def test_quantizers_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quantizers", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)["quantizers"]
    assert [entry["name"] for entry in entries] == [
        *("paretoq", "lsq", "rtn", "scale-offset", "min-max", "beta-gamma", "beta-gamma-sigmoid"),
        *("lsq-softclamp", "lsq-sigmoid", "lsq-softclamp-sigmoid", "quest"),
    ]
    assert entries[0]["bits"] == [1, 1.58, 2, 3, 4, 5, 6, 7, 8]
    assert {*entries[0]} >= {"bits", "granularity", "symmetric", "learnable", "source", "firmness"}
    assert main(["quantizers"]) == 0
    text = capsys.readouterr().out
    assert "lsq-sigmoid [open]\n  Li et al., arXiv 2410.10849" in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_demo_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sweep.toml").write_text("mine")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert "exists with other content" in capsys.readouterr().err
    assert (tmp_path / "sweep.toml").read_text() == "mine"
    assert main(["demo", "--out", str(tmp_path / "sweep.toml")]) == 2
    assert "is a file; a folder is needed" in capsys.readouterr().err


def test_a_folder_of_the_users_becomes_no_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "fraction.svg").write_text("mine")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert "is not empty and holds no demo" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["fraction.svg"]


@pytest.mark.parametrize("name", ["demo.toml", "demo_short.toml"])
def test_the_demos_are_sound_and_share_their_tokens(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    import importlib.resources

    with importlib.resources.as_file(importlib.resources.files("qatplan.cli") / name) as path:
        assert main(["sweep", str(path), "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["share_of_from_scratch"] <= 0.4
