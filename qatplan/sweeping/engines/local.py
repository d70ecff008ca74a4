"""The local engine: worker processes with one thread each on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection, Pipe, wait
from typing import final

from qatplan.sweeping.engines.engine import Engine, Event, Job, Order, look
from qatplan.sweeping.engines.environment import WORKER, library_paths
from qatplan.sweeping.engines.gpu_share import stack_size
from qatplan.sweeping.engines.heartbeat import Heartbeat
from qatplan.sweeping.engines.memory import PROCESS_BYTES, Budget, available_bytes
from qatplan.sweeping.graph import Machine, Segment

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

    Those that die, fail or are not heard of for `silence_seconds` are replaced. A worker trains up to `stacked`
    segments at once as one stack; default: on a GPU by its memory, on a CPU 1.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        stacked: int | None = None,
        memory: int | None = None,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self._limit = workers
        self._stacked = stacked
        self._gpu_bytes: int | None = None
        self._silence_seconds = silence_seconds
        self._budget = Budget(available_bytes() if memory is None else memory)
        self._pool: list[_Worker] = []
        self._job: Job | None = None

    def machine(self, device: str) -> Machine:
        found = look(device)
        self._gpu_bytes = found.gpu_bytes
        return found

    def start(self, job: Job, segments: int) -> None:
        self._job = job
        self._limit = self._limit or default_workers(job.device)
        # All at once: their imports take seconds, which the first segments hide.
        few = min(self._limit, segments, max(1, self._budget.available // PROCESS_BYTES))
        self._pool = [_Worker(job, self._silence_seconds) for _ in range(few)]

    def has_room(self) -> bool:
        assert self._limit is not None, "started"
        return sum(bool(worker.segments) for worker in self._pool) < self._limit

    def fits(self, stack: Sequence[Segment]) -> bool:
        return self._budget.fits(stack)

    def stack_limit(self, segment: Segment) -> int:
        assert self._limit is not None, "started"
        return self._stacked or stack_size(segment.config, self._gpu_bytes and self._gpu_bytes / self._limit)

    def give(self, stack: Sequence[Order]) -> None:
        assert self._job is not None, "started"
        # A busy worker that died stays until its closed connection has been read, which ends its segments.
        self._pool = [worker for worker in self._pool if worker.segments or worker.alive]
        idle = next((worker for worker in self._pool if not worker.segments), None)
        if idle is None:
            idle = _Worker(self._job, self._silence_seconds)
            self._pool.append(idle)
        idle.give(stack)
        for order in stack:
            self._budget.start(order.segment)

    def listen(self) -> Iterable[Event]:
        busy = {worker.connection: worker for worker in self._pool if worker.segments}
        ready = wait(list(busy), timeout=1.0)
        for worker in busy.values():
            heard = worker.connection in ready
            for event in worker.messages() if heard else worker.silence():
                if event.kind != "progress":
                    del worker.segments[event.segment.id]
                    # In a stack it is not known whose memory was too much.
                    self._budget.end(event.segment, failed=event.kind == "failed" and not worker.stacked)
                    worker.unfit |= event.kind == "failed"
                    if worker.unfit and not worker.segments:
                        worker.stop()  # whatever went wrong may have left it unfit: the next gets a new process
                yield event

    def close(self) -> None:
        for worker in self._pool:
            worker.stop()


class _Worker:
    """The driver's end of one worker process."""

    def __init__(self, job: Job, silence_seconds: float) -> None:
        self._limit = silence_seconds
        self.connection, remote = Pipe()
        # Not a process of multiprocessing: that would run the user's own script again in every worker.
        program = (
            f"import sys; sys.path[:] = {library_paths()!r}; from qatplan.sweeping.engines.local import serve; "
            f"serve({remote.fileno()}, {os.getpid()}, {silence_seconds / 6})"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.DEVNULL, env=os.environ | WORKER, process_group=0,
            pass_fds=[remote.fileno()],
        )  # fmt: skip
        remote.close()
        self._send(job)
        self.segments: dict[str, Segment] = {}
        """What it has in hand, by id."""
        self.stacked = False
        """Whether that was more than one segment when it was given."""
        self.unfit = False
        self._heard = time.monotonic()

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def give(self, stack: Sequence[Order]) -> None:
        self.segments = {order.segment.id: order.segment for order in stack}
        self.stacked = len(stack) > 1
        self._heard = time.monotonic()
        self._send(stack)

    def _send(self, message: object) -> None:
        with contextlib.suppress(OSError):  # the worker died: the next read of the connection says so
            self.connection.send(message)

    def messages(self) -> list[Event]:
        """How an attempt at one of its segments ended, or the steps done; nothing if it was a heartbeat."""
        try:
            message: Event | None = self.connection.recv()
        except (EOFError, OSError):
            return self._failed("its worker process died")
        self._heard = time.monotonic()
        return [] if message is None else [message]

    def silence(self) -> list[Event]:
        """The end of its attempts if it was silent for too long."""
        if time.monotonic() - self._heard <= self._limit:
            return []
        return self._failed(f"its worker process gave no sign of life for {self._limit:g} seconds")

    def _failed(self, message: str) -> list[Event]:
        self.unfit = True
        return [Event(kind="failed", segment=segment, message=message) for segment in self.segments.values()]

    def stop(self) -> None:
        # With its group, which holds the compilers that it may have started.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.connection.close()


def serve(descriptor: int, driver: int, beat_seconds: float) -> None:
    """A worker process: take segments from the driver, whose process id is `driver`, until it goes away."""
    heartbeat = Heartbeat(Connection(descriptor), driver=driver, beat_seconds=beat_seconds)
    from qatplan.sweeping.engines.worker import Executor  # brings torch, which takes seconds: the heart beats already

    executor = Executor(heartbeat.receive())
    while True:
        executor.attempt(heartbeat.receive(), heartbeat.send)
