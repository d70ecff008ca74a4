"""Sweeps whose branches are trained as stacks: the plain sweep's table, and what one bad branch does to the others."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.segments import end_of
from support.specifications import written
from support.sweeps import is_worker, processes_of

from qatplan import runs
from qatplan.cli.app import main
from qatplan.storage.base import Entry
from qatplan.sweeping.engines.engine import Event, Order
from qatplan.sweeping.engines.local import LocalEngine
from qatplan.sweeping.engines.worker import execute
from qatplan.sweeping.folder import SweepFolder
from qatplan.sweeping.graph import Graph, Machine, Segment, build
from qatplan.sweeping.run import sweep
from qatplan.sweeping.specification import Specification, read
from qatplan.sweeping.tokens import prepare_tokens
from qatplan.training.corpus.corpus import open_corpus
from qatplan.training.runtime import Runtime

GRIDS = """
[[grid]]
widths = 16
tokens = "6400"
bits = [2, 3, 4]
fractions = [0, 0.5]
schedules = ["classic", "fused"]
[[grid]]
widths = 16
tokens = "6400"
trunk_learning_rates = 1e3
"""
SAME = ("run_id", "parent_id", "trunk_id", "sweep_id", "status", "d_qat", "bits", "precision", "epochs")


@pytest.fixture(scope="module")
def specification(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("specification"), GRIDS, sequences=4, warmup="1K")


@pytest.fixture(scope="module")
def plain(specification: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The rows that single segments make, in this process."""
    out = tmp_path_factory.mktemp("sweep") / "plain"
    bench = Bench(read(specification), SweepFolder(out))
    bench.execute(bench.graph.segments.values())
    return rows(out)


def rows(out: Path) -> dict[str, dict[str, Any]]:
    """The rows of a sweep by run id."""
    found = runs.read([out])
    assert runs.validate(found) == []
    return {row["run_id"]: row for row in found.to_pylist()}


def losses(row: dict[str, Any]) -> list[float]:
    return [point["loss"] for point in row["curve"]]


def test_stacks_make_the_plain_sweeps_table(
    plain: dict[str, dict[str, Any]], specification: Path, tmp_path: Path
) -> None:
    sweep(
        read(specification), tmp_path / "stacked", device="cpu", workers=1,
        console=Console(file=io.StringIO(), force_terminal=False), make_engine=partial(LocalEngine, stacked=4),
    )  # fmt: skip
    stacked = rows(tmp_path / "stacked")
    assert plain.keys() == stacked.keys()
    for name, row in plain.items():
        found = stacked[name]
        assert {key: found[key] for key in SAME} == {key: row[key] for key in SAME}
        for key in ("loss", "loss_se"):
            assert found[key] == (None if row[key] is None else pytest.approx(row[key], rel=1e-4))
        assert losses(found) == pytest.approx(losses(row), rel=1e-4)
        assert bool(found["seconds"]) == bool(row["seconds"])
    assert {row["status"] for row in stacked.values()} == {"finished", "diverged"}
    timed = [row for row in stacked.values() if row["seconds"]]
    assert any(row["tokens_per_second"] is None for row in timed), "the time of a stack is nobody's own speed"
    assert all(row["tokens_per_second"] for row in plain.values() if row["seconds"])
    assert not list((tmp_path / "stacked" / "segments").glob("*"))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_worker_killed_with_a_stack_in_hand_loses_nothing(
    plain: dict[str, dict[str, Any]], specification: Path, tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "qatplan", "sweep", str(specification), "--out", str(tmp_path / "killed")]
    driver = subprocess.Popen(
        [*words, "--stacked", "4", "--workers", "1", "--json-lines"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert driver.stdout is not None
    in_hand: set[str] = set()
    retried: set[str] = set()
    killed = False
    for line in driver.stdout:
        event = json.loads(line)
        name = event.get("segment")
        if event["event"] == "started":
            in_hand.add(name)
        elif event["event"] == "retried":
            retried.add(name)
        elif event["event"] in ("done", "failed"):
            in_hand.discard(name)
        if len(in_hand) > 1 and not killed:
            (worker,) = (pid for pid in processes_of(driver.pid) if is_worker(pid))
            os.kill(worker, signal.SIGKILL)
            killed = True
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 0, errors
    assert len(retried) > 1, "all that the worker had"
    found = rows(tmp_path / "killed")
    assert plain.keys() == found.keys()
    for name, row in plain.items():
        assert {key: found[name][key] for key in SAME} == {key: row[key] for key in SAME}
        assert found[name]["loss"] == (None if row["loss"] is None else pytest.approx(row["loss"], rel=1e-4))
    assert not list((tmp_path / "killed").rglob("*.tmp"))
    assert not list((tmp_path / "killed" / "segments").glob("*"))


class Bench:
    """A sweep whose segments are executed by hand."""

    def __init__(self, specification: Specification, folder: SweepFolder) -> None:
        self.folder = folder
        info = prepare_tokens(specification.corpus, folder)
        self.graph: Graph = build(specification, info, Machine(device="cpu", can_compile=False))
        self.runtime = Runtime(open_corpus(folder.storage.path / "corpus"), "cpu")
        self.phases = [segment for segment in self.graph.segments.values() if segment.schedule == "fused"][:3]

    def execute(self, segments: Iterable[Segment]) -> None:
        children = self.graph.children()
        for segment in segments:
            end = end_of(segment, self.folder, self.runtime, sweep_id=self.graph.sweep_id,
                         save_end=bool(children[segment.id]))  # fmt: skip
            assert end.kind == "done", end.message

    def stack(self) -> dict[str, Event]:
        ends: dict[str, Event] = {}

        def tell(event: Event) -> None:
            if event.kind != "progress":
                assert event.segment.id not in ends, "told once"
                ends[event.segment.id] = event

        orders = [Order(segment=phase, save_end=False) for phase in self.phases]
        execute(orders, self.folder, self.runtime, self.graph.sweep_id, tell, save_seconds=0.0)
        return ends


def test_what_is_wrong_with_one_of_a_stack_concerns_that_one(
    specification: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(read(specification), SweepFolder(tmp_path / "sweep"))
    first, second, third = bench.phases
    bench.execute(segment for segment in bench.graph.segments.values() if segment.config.kind == "trunk")
    write = Entry.write

    def full_disk(entry: Entry, data: bytes) -> None:
        if entry == bench.folder.row(second.id):
            raise OSError(28, "No space left on device")
        write(entry, data)

    bench.folder.partial(third.id).write(b"nonsense")
    with monkeypatch.context() as patch:
        patch.setattr(Entry, "write", full_disk)
        ends = bench.stack()
    assert {name: end.kind for name, end in ends.items()} == {first.id: "done", second.id: "failed", third.id: "done"}
    assert "No space left on device" in ends[second.id].message
    assert "what it held is made again" in ends[third.id].remarks[0]
    # Once more: two have rows and begin again from their parent, which is gone; the other has its own last state.
    bench.folder.checkpoint(str(second.parent)).remove()
    ends = bench.stack()
    assert {name: end.kind for name, end in ends.items()} == {
        first.id: "blocked", second.id: "done", third.id: "blocked",
    }  # fmt: skip
    assert bench.folder.row(second.id).exists()


def test_a_stack_has_at_least_one_member(
    specification: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", str(specification), "--out", str(tmp_path / "out"), "--stacked", "0"]) == 2
    assert "--stacked" in capsys.readouterr().err
