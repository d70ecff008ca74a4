"""The JSON of shipped fits' plans, kept from before: keys, their order, sentences and numbers stay as they are."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from qatplan.cli.app import main

ROOT = Path(__file__).parents[2]
KEPT: dict[str, dict[str, Any]] = json.loads((ROOT / "tests/reference/plans.json").read_text(encoding="utf-8"))


def same(found: Any, kept: Any, where: str) -> None:
    """Equal but for the last digits of numbers, which depend on the machine's NumPy."""
    if isinstance(kept, dict):
        assert list(found) == list(kept), where
        for key, value in kept.items():
            same(found[key], value, f"{where}.{key}")
    elif isinstance(kept, list):
        assert len(found) == len(kept), where
        for i, value in enumerate(kept):
            same(found[i], value, f"{where}[{i}]")
    elif isinstance(kept, float):
        assert found == pytest.approx(kept, rel=1e-9), where
    else:
        assert found == kept, where


@pytest.mark.parametrize("command", KEPT)
def test_json_is_what_it_was(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert main([*shlex.split(command), "--json"]) == KEPT[command]["exit"]
    found = json.loads(capsys.readouterr().out)
    found.pop("fit", None)  # holds the provenance of the shipped fit
    same(found, KEPT[command]["json"], command)
