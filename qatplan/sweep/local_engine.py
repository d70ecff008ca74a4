"""The local engine: spawned worker processes with one thread each on this machine."""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import signal
import sys
from collections.abc import Iterable
from multiprocessing.connection import Connection, wait
from typing import final

from qatplan.sweep.engine import Engine, Event, Job
from qatplan.sweep.environment import ONE_THREAD, environment
from qatplan.sweep.graph import Machine, Segment


def default_workers(device: str) -> int:
    """One worker a core; one in all on a GPU."""
    if device == "cuda":
        return 1
    # Linux knows which cores this process may use; elsewhere all there are.
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@final
class LocalEngine(Engine):
    """At most `workers` processes (default: `default_workers`), replaced when they die."""

    def __init__(self, workers: int | None = None) -> None:
        self._limit = workers
        self._pool: list[_Worker] = []
        self._job: Job | None = None

    def machine(self, device: str) -> Machine:
        from qatplan.training.runtime import can_compile, resolve_device

        resolved = resolve_device(device)
        return Machine(device=resolved, can_compile=can_compile(resolved))

    def start(self, job: Job, segments: int) -> None:
        self._job = job
        self._limit = self._limit or default_workers(job.device)
        # All at once: their imports take seconds, which the first segments hide.
        self._pool = [_Worker(job) for _ in range(min(self._limit, segments))]

    def has_room(self) -> bool:
        assert self._limit is not None, "started"
        return sum(worker.segment is not None for worker in self._pool) < self._limit

    def give(self, segment: Segment, has_children: bool) -> None:
        assert self._job is not None, "started"
        # A busy worker that died stays until its closed connection has been read, which ends its segment.
        self._pool = [worker for worker in self._pool if worker.segment is not None or worker.alive]
        idle = next((worker for worker in self._pool if worker.segment is None), None)
        if idle is None:
            idle = _Worker(self._job)
            self._pool.append(idle)
        idle.give(segment, has_children)

    def listen(self) -> Iterable[Event]:
        busy = {worker.connection: worker for worker in self._pool if worker.segment is not None}
        for ready in wait(list(busy), timeout=1.0):
            worker = busy[ready]  # type: ignore[index]
            segment = worker.segment
            assert segment is not None
            try:
                kind, value = worker.connection.recv()
            except (EOFError, OSError):
                worker.stop()
                kind, value = "end", "its worker process died"
            if kind == "progress":
                yield Event(kind="progress", segment=segment, steps=value)
                continue
            worker.segment = None
            yield Event(kind="done" if value is None else "failed", segment=segment, message=value or "")

    def close(self) -> None:
        for worker in self._pool:
            worker.stop()


class _Worker:
    """The driver's end of one worker process."""

    def __init__(self, job: Job) -> None:
        context = mp.get_context("spawn")
        self.connection, remote = context.Pipe()
        self.process = context.Process(target=_serve, args=(remote, job), daemon=True)
        with environment(ONE_THREAD):
            self.process.start()
        remote.close()
        self.segment: Segment | None = None

    @property
    def alive(self) -> bool:
        return self.process.is_alive()

    def give(self, segment: Segment, has_children: bool) -> None:
        self.segment = segment
        with contextlib.suppress(OSError):  # the worker died: the next read of the connection says so
            self.connection.send((segment, has_children))

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _serve(connection: Connection, job: Job) -> None:
    """A worker process: take segments from the driver until it goes away."""
    # Ctrl-C reaches the whole process group; stopping workers is the driver's part.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from qatplan.sweep.worker import Executor

    executor = Executor(job)
    parent = mp.parent_process()

    def watch(steps: int) -> None:
        if parent is not None and not parent.is_alive():
            sys.exit(1)  # the driver was killed: leave no orphan behind
        connection.send(("progress", steps))

    while True:
        try:
            segment, has_children = connection.recv()
        except EOFError:
            return
        connection.send(("end", executor.attempt(segment, has_children, watch)))
