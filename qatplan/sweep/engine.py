"""The local engine: spawned worker processes with one thread each, fed along the graph's longest paths first.

Correctness does not live here: any segment may be executed any number of times (`qatplan.sweep.worker`).
"""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from qatplan.errors import QatplanError
from qatplan.sweep.folder import SweepFolder
from qatplan.sweep.graph import Graph, Segment, work_of
from qatplan.sweep.line import Line, lead_group
from qatplan.sweep.memory import Budget, available_bytes

ATTEMPTS = 3
"""Times a segment is tried before it is given up."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a segment: `started`, `progress` (steps), `done`, or with a message `retried`,
    `failed` or `remark`."""

    kind: str
    segment: Segment
    steps: int = 0
    message: str = ""


def run(
    graph: Graph,
    folder: SweepFolder,
    *,
    finished: set[str],
    workers: int,
    keep: bool,
    report: Callable[[Event], None],
    save_seconds: float,
    silence_seconds: float,
    memory: int | None = None,
) -> dict[str, str]:
    """Execute what is missing of a graph; returns the segments given up, by id, with the reason of each.

    `finished` are the runs whose rows exist. A worker not heard of for `silence_seconds` is replaced. `memory` is how
    many bytes the workers may take together; default what is available. KeyboardInterrupt stops the workers and is
    raised again.
    """
    plan = Plan(graph, folder, finished, keep)
    budget = Budget(available_bytes() if memory is None else memory)
    job = {
        "folder": folder.location, "sweep_id": graph.sweep_id, "keep": keep, "save_seconds": save_seconds,
        "beat_seconds": silence_seconds / 6, "driver": os.getpid(),
    }  # fmt: skip
    pool: list[_Worker] = []
    try:
        while plan.waiting or plan.running:
            # A busy worker that died stays until its closed connection has been read, which frees its segment.
            pool = [worker for worker in pool if worker.segment is not None or worker.alive]
            while (idle := _idle(pool)) or len(pool) < workers:
                segment = plan.next(budget.fits)
                if segment is None:
                    break
                if idle is None:
                    pool.append(idle := _Worker(job))
                idle.give(segment, plan.has_needed_children(segment.id))
                budget.start(segment)
                report(Event(kind="started", segment=segment))
            if not plan.running:
                break  # what is left hangs on segments that were given up
            _listen(pool, plan, budget, report, silence_seconds)
    finally:
        for worker in pool:
            worker.stop()
    return plan.failed


def _idle(pool: list[_Worker]) -> _Worker | None:
    return next((worker for worker in pool if worker.segment is None), None)


def _listen(
    pool: list[_Worker], plan: Plan, budget: Budget, report: Callable[[Event], None], silence_seconds: float
) -> None:
    busy = {worker.connection: worker for worker in pool if worker.segment is not None}
    ready = wait(list(busy), timeout=1.0)
    for worker in busy.values():
        segment = worker.segment
        assert segment is not None
        if worker.connection in ready:
            try:
                kind, value = worker.connection.recv()
                worker.heard = time.monotonic()
            except (EOFError, OSError):
                kind, value = "failed", "its worker process died"
        elif time.monotonic() - worker.heard > silence_seconds:
            kind, value = "failed", f"its worker process gave no sign of life for {silence_seconds:g} seconds"
        else:
            continue
        if kind == "alive":
            continue
        if kind == "progress":
            report(Event(kind="progress", segment=segment, steps=value))
            continue
        worker.segment = None
        budget.end(segment, failed=kind == "failed")
        if kind == "done":
            plan.done(segment.id)
            for remark in value:
                report(Event(kind="remark", segment=segment, message=remark))
            report(Event(kind="done", segment=segment))
            continue
        if kind == "failed":
            worker.stop()  # whatever went wrong may have left it unfit: the next attempt gets a new process
        again = plan.fail(segment.id, value)
        if again and kind == "lost parent":
            plan.restore_parent(segment.id)
        report(Event(kind="retried" if again else "failed", segment=segment, message=value))


class Plan:
    """Which segments are needed, ready, running or done. Only what missing runs depend on is executed."""

    def __init__(self, graph: Graph, folder: SweepFolder, finished: set[str], keep: bool) -> None:
        self.graph, self.folder, self.keep = graph, folder, keep
        self.finished = set(finished)
        self.saved = folder.checkpoints()
        self.failed: dict[str, str] = {}
        self.running: set[str] = set()
        self.needed = self._needed()
        self.unmet = {name: self._unmet_parent(name) for name in self.needed}
        self.waiting = set(self.needed)
        self._children: dict[str, list[str]] = {name: [] for name in graph.segments}
        for name in self.needed:
            parent = graph.segments[name].parent
            if parent is not None:
                self._children[parent].append(name)
        self._length = self._path_lengths()
        self._attempts: dict[str, int] = {}

    def _needed(self) -> set[str]:
        needed: set[str] = set()
        for run in self.graph.runs:
            if run.id in self.finished:
                continue
            name: str | None = run.id
            while name is not None and name not in needed:
                if name != run.id and name in self.saved:
                    break
                needed.add(name)
                name = self.graph.segments[name].parent
        return needed

    def _unmet_parent(self, name: str) -> str | None:
        parent = self.graph.segments[name].parent
        return parent if parent in self.needed else None

    def _path_lengths(self) -> dict[str, float]:
        """The work from each segment to the end of its longest branch."""
        length: dict[str, float] = {}
        for name in reversed(list(self.graph.segments)):
            if name not in self.needed:
                continue
            own = work_of(self.graph.segments[name])
            length[name] = own + max((length.get(child, 0.0) for child in self._children[name]), default=0.0)
        return length

    def has_needed_children(self, name: str) -> bool:
        """Whether a segment must leave a checkpoint behind."""
        return bool(self._children[name])

    def next(self, fits: Callable[[Segment], bool] = lambda segment: True) -> Segment | None:
        """The ready segment with the longest path behind it, among those that fit."""
        ready = [name for name in self.waiting if self.unmet[name] is None and fits(self.graph.segments[name])]
        if not ready:
            return None
        name = max(ready, key=lambda candidate: (self._length[candidate], candidate))
        self.waiting.remove(name)
        self.running.add(name)
        return self.graph.segments[name]

    def done(self, name: str) -> None:
        """Record a finished segment, free its children, and delete a parent's checkpoint that nobody needs now."""
        self.running.discard(name)
        self.needed.discard(name)
        if self._children[name] or self.keep:
            self.saved.add(name)
        for child in self._children[name]:
            self.unmet[child] = None
        parent = self.graph.segments[name].parent
        if parent is None or self.keep or parent in self.needed:
            return
        if not any(child in self.needed for child in self._children[parent]):
            self.folder.checkpoint(parent).remove()
            self.saved.discard(parent)

    def restore_parent(self, child: str) -> None:
        """Have the parent of a waiting segment made again, because its saved end cannot be used.

        So are the ancestors it needs whose own end is no longer there.
        """
        parent = self.graph.segments[child].parent
        if parent is not None:
            self.saved.discard(parent)
        while parent is not None and parent not in self.needed and parent not in self.saved:
            self.needed.add(parent)
            self.waiting.add(parent)
            if child not in self._children[parent]:
                self._children[parent].append(child)
            for sibling in self._children[parent]:
                if sibling in self.waiting:
                    self.unmet[sibling] = parent
            child, parent = parent, self.graph.segments[parent].parent
        self.unmet[child] = parent if parent in self.needed else None
        self._length = self._path_lengths()

    def fail(self, name: str, message: str) -> bool:
        """Record a failed attempt; True if the segment will be tried again."""
        self.running.discard(name)
        self._attempts[name] = self._attempts.get(name, 0) + 1
        if self._attempts[name] < ATTEMPTS:
            self.waiting.add(name)
            return True
        self.failed[name] = message
        stack = list(self._children[name])
        while stack:
            child = stack.pop()
            self.waiting.discard(child)
            self.failed[child] = f"a segment before it failed: {message}"
            stack.extend(self._children[child])
        return False


class _Worker:
    """The driver's end of one worker process."""

    def __init__(self, job: dict[str, Any]) -> None:
        context = mp.get_context("spawn")
        self.connection, remote = context.Pipe()
        self.process = context.Process(target=_serve, args=(remote, job), daemon=True)
        with _environment(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE"):
            self.process.start()
        remote.close()
        self.segment: Segment | None = None
        self.heard = time.monotonic()

    @property
    def alive(self) -> bool:
        return self.process.is_alive()

    def give(self, segment: Segment, has_children: bool) -> None:
        self.segment = segment
        self.heard = time.monotonic()
        with contextlib.suppress(OSError):  # the worker died: the next read of the connection says so
            self.connection.send((segment, has_children))

    def stop(self) -> None:
        # With its group, which holds the compilers that it may have started.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.connection.close()


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Variables that a spawned process must find when it loads its libraries."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(connection: Connection, job: dict[str, Any]) -> None:
    """A worker process: take segments from the driver until it goes away."""
    # Ctrl-C reaches the whole process group; stopping workers is the driver's part.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lead_group()
    line = Line(connection, driver=job["driver"], beat_seconds=job["beat_seconds"])
    import torch

    from qatplan.sweep.tokens import local_tokens
    from qatplan.sweep.worker import LostParent, execute
    from qatplan.training.corpus import open_corpus
    from qatplan.training.runtime import Runtime

    torch.set_num_threads(1)
    folder = SweepFolder(job["folder"])
    runtime: Runtime | None = None
    while True:
        segment, has_children = line.receive()
        try:
            if runtime is None:
                corpus = open_corpus(local_tokens(folder, segment.config.corpus))
                runtime = Runtime(corpus, segment.config.device)
            remarks = execute(
                segment, folder=folder, runtime=runtime, sweep_id=job["sweep_id"], has_children=has_children,
                keep=job["keep"], watch=lambda steps: line.send("progress", steps), save_seconds=job["save_seconds"],
            )  # fmt: skip
        except LostParent as error:
            line.send("lost parent", str(error))
        except QatplanError as error:
            line.send("failed", str(error))
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            message = f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"
            line.send("failed", message)
        else:
            line.send("done", remarks)
