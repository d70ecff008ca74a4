"""Notebooks run, and show what was kept with them."""

from __future__ import annotations

from pathlib import Path

import notebooks
import pytest


@pytest.mark.parametrize("path", notebooks.every(), ids=lambda path: path.name)
def test_notebook_runs_and_shows_what_was_kept(path: Path, tmp_path: Path) -> None:
    fresh = notebooks.executed(path, tmp_path)
    kept = notebooks.shown(notebooks.read(path))
    assert notebooks.shown(fresh) == kept, "`python docs/refresh.py` keeps the new outputs"


@pytest.mark.parametrize("path", notebooks.every(), ids=lambda path: path.name)
def test_notebook_is_small_and_has_its_outputs(path: Path) -> None:
    assert path.stat().st_size < 2**20
    cells = [cell for cell in notebooks.read(path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


def test_there_is_a_notebook() -> None:
    assert [path.name for path in notebooks.every()] == ["from-import-to-plan.ipynb"]
