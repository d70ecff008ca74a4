"""A signal that comes while a command loads its libraries ends it with the documented code and one sentence."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.specifications import written

GRID = "[[grid]]\nwidths = 16\ntokens = 5120\n"


def ended(words: list[str], number: signal.Signals, after: float) -> tuple[int, str]:
    """How a command ends to which a signal is sent so many seconds after it can take one."""
    process = subprocess.Popen([sys.executable, "-m", "qatplan", *words], stderr=subprocess.PIPE, text=True)
    status = Path(f"/proc/{process.pid}/status")
    while not int(status.read_text().split("SigCgt:")[1].split()[0], 16) >> (number - 1) & 1:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    if number == signal.SIGINT:
        time.sleep(0.1)  # Python catches it from the start, with a handler of its own
    time.sleep(after)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    return process.returncode, said


@pytest.mark.parametrize("after", [0.0, 0.3, 1.0])
def test_a_sweep_that_is_loading_is_incomplete(after: float, tmp_path: Path) -> None:
    command = ["sweep", str(written(tmp_path, GRID)), "--out", str(tmp_path / "out"), "--workers", "1"]
    code, said = ended(command, signal.SIGTERM, after)
    assert code == 5, said
    assert said.splitlines()[-1].startswith("qatplan: interrupted")
    assert said.endswith("repeat the command to go on.\n")
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("after", [0.0, 0.3])
def test_any_other_command_is_interrupted(number: signal.Signals, after: float, tmp_path: Path) -> None:
    command = ["fit", "data/main/runs.parquet", "--bootstrap", "100000", "--out", str(tmp_path / "fit.json")]
    assert ended(command, number, after) == (130, "qatplan: interrupted.\n")
    assert not list(tmp_path.iterdir())
