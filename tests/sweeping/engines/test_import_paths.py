"""Files of the user's folder that are named like libraries: a sweep started there imports none of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from support.specifications import written

from qatplan.sweeping.engines.environment import library_paths

NAMES = ("signal", "queue", "typing_extensions", "numpy", "torch", "rich", "typer", "pyarrow", "statistics", "numbers")
GRID = """
[[grid]]
widths = 16
tokens = 5120
bits = 4
fractions = 0.5
"""
SCRIPT = """
import os
from pathlib import Path
from rich.console import Console
from qatplan.sweeping.run import sweep
from qatplan.sweeping.specification import read
print("the script runs", flush=True)
outcome = sweep(read(Path("sweep.toml")), Path("sweep"), device="cpu", workers=1, console=Console(stderr=True))
print(outcome.new_runs)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    written(tmp_path, GRID)
    return tmp_path


def shadow(folder: Path, names: Iterable[str] = NAMES) -> None:
    for name in names:
        (folder / f"{name}.py").write_text(f"open({str(folder / 'imported')!r}, 'a').write('{name} ')\nraise OSError\n")


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # Where the tests import qatplan from, and no folder relative to the one that the command is started in.
    path = os.pathsep.join(library_paths())
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )


def loaded_by_python() -> set[str]:
    """What `python -m` itself imports, before anything of the module that it is to run."""
    program = "import runpy, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_no_module_of_the_current_folder_is_imported(folder: Path) -> None:
    shadow(folder, {*NAMES, *sys.stdlib_module_names} - loaded_by_python())
    ended = run(folder, "-m", "qatplan", "laws", "--json")
    assert not (folder / "imported").exists(), (folder / "imported").read_text()
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_files_named_like_libraries_are_left_alone(folder: Path, engine: str) -> None:
    if engine == "ray":
        pytest.importorskip("ray")
    shadow(folder)
    options = ("--workers", "1", "--device", "cpu", "--engine", engine, "--json")
    ended = run(folder, "-m", "qatplan", "sweep", "sweep.toml", "--out", "sweep", *options)
    assert not (folder / "imported").exists(), (folder / "imported").read_text()
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["new_runs"] == 2


def test_a_script_that_sweeps_needs_no_guard_and_is_not_run_by_workers(folder: Path) -> None:
    (folder / "mine.py").write_text(SCRIPT)
    ended = run(folder, "mine.py")
    assert ended.stdout == "the script runs\n2\n", ended.stderr
