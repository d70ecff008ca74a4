"""A sweep in an object store: the table of a local one, after a killed driver, a damaged row and on a new machine."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from support.object_store import bucket
from support.specifications import written

from qatplan import runs
from qatplan.cli.app import main
from qatplan.errors import UsageError
from qatplan.storage import lease
from qatplan.storage.open import open_storage
from qatplan.sweeping.run import sweep
from qatplan.sweeping.specification import read

GRIDS = """
[[grid]]
widths = 16
tokens = 12800
bits = 4
fractions = [0, 0.3, 0.5]
"""
OUT = "s3://sweeps/first/sweep"


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with bucket("sweeps") as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setenv("QATPLAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(lease, "SETTLE_SECONDS", 0.01)
        yield


def test_a_remote_sweep_gives_the_local_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, GRIDS)
    silent = Console(file=open(os.devnull, "w"))  # noqa: SIM115
    sweep(read(path), tmp_path / "local", device="cpu", workers=1, console=silent)
    local = runs.read(tmp_path / "local")

    driver = subprocess.Popen(
        [sys.executable, "-m", "qatplan", "sweep", str(path), "--out", OUT, "--workers", "1"], start_new_session=True
    )
    storage = open_storage(OUT)
    deadline = time.monotonic() + 240
    while not storage.names("runs") and driver.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with pytest.raises(
        UsageError, match=r"s3://sweeps/first/sweep is in use by another sweep command \(process \d+ on"
    ):
        sweep(read(path), OUT, device="cpu", workers=1, console=silent)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()

    (first, size), *_ = storage.names("runs").items()
    flipped = bytearray(storage.read(f"runs/{first}"))
    flipped[int(size or 0) // 2] ^= 8
    storage.write(f"runs/{first}", bytes(flipped))
    os.environ["QATPLAN_CACHE"] = str(tmp_path / "cache of another machine")
    outcome = sweep(read(path), OUT, device="cpu", workers=1, console=silent)
    assert [f"{OUT}/runs/{first}" in remark for remark in outcome.set_aside] == [True]
    assert runs.digest(runs.read(OUT)) == runs.digest(local)
    assert storage.names("segments") == {}
    left = ["corpus", "runs", "segments", "status.json", "sweep.json"]
    assert sorted(storage.names()) == left, "no lease and no probe is left"

    again = sweep(read(path), OUT, device="cpu", workers=1, console=silent)
    assert (again.new_runs, again.runs) == (0, 4)
    assert main(["runs", OUT, "--json", "--compact", str(tmp_path / "all.parquet")]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == runs.digest(local)
    assert runs.digest(runs.read(tmp_path / "all.parquet")) == runs.digest(local)
    assert main(["plot", "loss-curves", OUT, "--out", str(tmp_path / "curves.svg")]) == 0
    assert (tmp_path / "curves.svg").stat().st_size > 1000
    record_is_made_again(path, runs.digest(local))
    assert main(["runs", "s3://sweeps/elsewhere"]) == 3
    assert "s3://sweeps/elsewhere holds no runs" in capsys.readouterr().err
    assert main(["runs", "s3://sweeps/elsewhere/runs.parquet"]) == 3
    assert "s3://sweeps/elsewhere/runs.parquet does not exist." in capsys.readouterr().err


def record_is_made_again(path: Path, digest: str) -> None:
    """A lost or damaged sweep.json is made again from the specification and the rows in the store."""
    storage = open_storage(OUT)
    before = storage.read("sweep.json")
    for content in (None, b'{"specification": 1}'):
        storage.remove("sweep.json")
        if content is not None:
            storage.write("sweep.json", content)
        said = io.StringIO()
        again = sweep(read(path), OUT, device="cpu", workers=1, console=Console(file=said, width=500))
        what = "missing" if content is None else "damaged"
        assert f"{OUT}/sweep.json was {what}; it is made again from the specification and the runs." in said.getvalue()
        assert (again.new_runs, again.runs) == (0, 4)
        assert json.loads(storage.read("sweep.json")) == json.loads(before)
        assert storage.exists("sweep.json.damaged") == (content is not None)
    assert runs.digest(runs.read(OUT)) == digest
