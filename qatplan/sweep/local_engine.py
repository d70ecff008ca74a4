"""The local engine: spawned worker processes with one thread each on this machine."""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import signal
import sys
import time
from collections.abc import Iterable
from multiprocessing.connection import Connection, wait
from typing import final

from qatplan.sweep.engine import Attempt, Engine, Event, Job
from qatplan.sweep.environment import ONE_THREAD, environment
from qatplan.sweep.graph import Machine, Segment
from qatplan.sweep.line import Line, lead_group
from qatplan.sweep.memory import PROCESS_BYTES, Budget, available_bytes

SILENCE_SECONDS = 120.0
"""After which a worker without a sign of life is replaced."""


def default_workers(device: str) -> int:
    """One worker a core; one in all on a GPU."""
    if device == "cuda":
        return 1
    # Linux knows which cores this process may use; elsewhere all there are.
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@final
class LocalEngine(Engine):
    """At most `workers` processes (default: `default_workers`), and no more than fit in `memory` bytes.

    Those that die, fail or are not heard of for `silence_seconds` are replaced.
    """

    def __init__(
        self, workers: int | None = None, *, memory: int | None = None, silence_seconds: float = SILENCE_SECONDS
    ) -> None:
        self._limit = workers
        self._silence_seconds = silence_seconds
        self._budget = Budget(available_bytes() if memory is None else memory)
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
        few = min(self._limit, segments, max(1, self._budget.available // PROCESS_BYTES))
        self._pool = [self._worker(job) for _ in range(few)]

    def has_room(self) -> bool:
        assert self._limit is not None, "started"
        return sum(worker.segment is not None for worker in self._pool) < self._limit

    def fits(self, segment: Segment) -> bool:
        return self._budget.fits(segment)

    def give(self, segment: Segment, has_children: bool) -> None:
        assert self._job is not None, "started"
        # A busy worker that died stays until its closed connection has been read, which ends its segment.
        self._pool = [worker for worker in self._pool if worker.segment is not None or worker.alive]
        idle = next((worker for worker in self._pool if worker.segment is None), None)
        if idle is None:
            idle = self._worker(self._job)
            self._pool.append(idle)
        idle.give(segment, has_children)
        self._budget.start(segment)

    def listen(self) -> Iterable[Event]:
        busy = {worker.connection: worker for worker in self._pool if worker.segment is not None}
        ready = wait(list(busy), timeout=1.0)
        for worker in busy.values():
            segment = worker.segment
            assert segment is not None
            news = worker.news() if worker.connection in ready else worker.silence(self._silence_seconds)
            if isinstance(news, int):
                yield Event(kind="progress", segment=segment, steps=news)
            elif news is not None:
                worker.segment = None
                self._budget.end(segment, failed=news.kind == "failed")
                if news.kind == "failed":
                    worker.stop()  # whatever went wrong may have left it unfit: the next attempt gets a new process
                yield from news.events(segment)

    def close(self) -> None:
        for worker in self._pool:
            worker.stop()

    def _worker(self, job: Job) -> _Worker:
        return _Worker(job, beat_seconds=self._silence_seconds / 6)


class _Worker:
    """The driver's end of one worker process."""

    def __init__(self, job: Job, *, beat_seconds: float) -> None:
        context = mp.get_context("spawn")
        self.connection, remote = context.Pipe()
        self.process = context.Process(target=_serve, args=(remote, job, os.getpid(), beat_seconds), daemon=True)
        with environment(ONE_THREAD):
            self.process.start()
        remote.close()
        self.segment: Segment | None = None
        self._heard = time.monotonic()

    @property
    def alive(self) -> bool:
        return self.process.is_alive()

    def give(self, segment: Segment, has_children: bool) -> None:
        self.segment = segment
        self._heard = time.monotonic()
        with contextlib.suppress(OSError):  # the worker died: the next read of the connection says so
            self.connection.send((segment, has_children))

    def news(self) -> Attempt | int | None:
        """What it says: how its attempt ended, the steps done, or only that it lives."""
        try:
            said: Attempt | int | None = self.connection.recv()
        except (EOFError, OSError):
            return Attempt(kind="failed", message="its worker process died")
        self._heard = time.monotonic()
        return said

    def silence(self, limit: float) -> Attempt | None:
        """The end of its attempt if it was silent for longer than `limit` seconds."""
        if time.monotonic() - self._heard <= limit:
            return None
        return Attempt(kind="failed", message=f"its worker process gave no sign of life for {limit:g} seconds")

    def stop(self) -> None:
        # With its group, which holds the compilers that it may have started.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.connection.close()


def _serve(connection: Connection, job: Job, driver: int, beat_seconds: float) -> None:
    """A worker process: take segments from the driver until it goes away."""
    # Ctrl-C reaches the whole process group; stopping workers is the driver's part.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lead_group()
    line = Line(connection, driver=driver, beat_seconds=beat_seconds)
    from qatplan.sweep.worker import Executor

    executor = Executor(job)
    while True:
        segment, has_children = line.receive()
        line.send(executor.attempt(segment, has_children, line.send))
