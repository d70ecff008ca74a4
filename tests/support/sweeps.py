"""Sweep commands as processes, and what of them is alive."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console


def console() -> Console:
    return Console(file=io.StringIO(), force_terminal=False)


def command(specification: Path, out: Path, workers: int = 2) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "qatplan", "sweep", str(specification), "--out", str(out), "--workers", str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_rows(out: Path, number: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while len(list((out / "runs").glob("*.parquet"))) < number and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def processes_of(session: int) -> list[int]:
    """Process ids whose session is `session`, from /proc."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def is_worker(pid: int) -> bool:
    try:
        return b"engines.local import serve" in (Path("/proc") / str(pid) / "cmdline").read_bytes()
    except OSError:
        return False
