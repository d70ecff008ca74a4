"""Every program of `benchmarks/` can be loaded and says how it is called."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qatplan.sweeping.engines.environment import KEEP_MEMORY, ONE_THREAD

FOLDER = Path(__file__).parents[1] / "benchmarks"
HELPERS = {"worker_process"}
"""Files that are imported only."""
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_answers_help(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    program = importlib.import_module(name)
    assert Path(str(program.__file__)) == FOLDER / f"{name}.py"
    if name in HELPERS:
        return
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: ")
    # The first sentence says what is measured, and the first command line how.
    assert str(program.__doc__).splitlines()[0] in printed
    assert f"python benchmarks/{name}.py" in printed


def test_a_benchmark_begun_anew_as_a_worker_still_finds_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "neighbour.py").write_text("")
    program = tmp_path / "program.py"
    program.write_text(
        "import json, os, neighbour\nfrom worker_process import become_worker\n"
        "become_worker()\nprint(json.dumps(dict(os.environ)))\n"
    )
    wanted = {**ONE_THREAD, **KEEP_MEMORY}
    before = {name: value for name, value in os.environ.items() if name not in wanted}
    path = os.pathsep.join([str(FOLDER), str(FOLDER.parent)])
    ended = subprocess.run(
        [sys.executable, str(program)], env={**before, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert wanted.items() <= json.loads(ended.stdout).items()
