"""The Ray engine: each segment a task of Ray Core, on a cluster that exists or on one of this machine alone.

Ray places tasks and reports what became of them. Order and retries are the plan's, as with every engine.
"""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

from qatplan.errors import MissingExtra, SweepIncomplete, UsageError
from qatplan.sweeping.engines import ray_tasks
from qatplan.sweeping.engines.engine import Engine, Event, Job, Order
from qatplan.sweeping.engines.gpu_share import share_of, stack_size
from qatplan.sweeping.engines.local import default_workers
from qatplan.sweeping.engines.ray_cluster import Cluster, brief
from qatplan.sweeping.graph import Machine, Segment

LOOK_SECONDS = 120.0
"""Time for the first worker to come up before a cluster is held to be unusable."""
STOP_SECONDS = 10.0
"""Time for cancelled workers to end."""


@dataclass(frozen=True, kw_only=True)
class _Task:
    """A task of Ray that runs."""

    number: int
    segments: dict[str, Segment]
    """Those of it whose attempts have not ended, by id."""
    share: float
    """Of a GPU."""


@final
class RayEngine(Engine):
    """A cluster at `address`, or one started on this machine, bound to loopback and stopped at the end.

    At most `workers` tasks at once; default: as many as the cluster has cores (and shares of a GPU) for, however that
    changes. `gpu_share` is the part of a GPU that a task takes; default: by the memory that its models need. A task
    trains up to `stacked` segments at once as one stack; default: on a GPU by its memory, on a CPU 1.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        address: str | None = None,
        gpu_share: float | None = None,
        stacked: int | None = None,
    ) -> None:
        if importlib.util.find_spec("ray") is None:
            raise MissingExtra('--engine ray needs the ray extra: pip install "qatplan[ray]".')
        self._workers, self._gpu_share, self._stacked = workers, gpu_share, stacked
        self._cluster = Cluster(address, workers or default_workers("cpu"))
        self._ray: Any = None
        self._gpu_bytes: int | None = None
        self._job: Job | None = None
        self._task: Any = None
        self._board: Any = None
        self._running: dict[Any, _Task] = {}
        self._given = 0
        self._here = ""
        self._cores = self._gpus = 0.0
        self._looked = 0.0

    def machine(self, device: str) -> Machine:
        """Starts or joins the cluster and looks at one of its nodes."""
        self._ray = ray = self._cluster.connect()
        resources = ray.cluster_resources()
        gpu = device != "cpu" and resources.get("GPU", 0) > 0
        if device == "cuda" and not gpu:
            raise UsageError("device cuda: no node of the Ray cluster offers a GPU; allowed here: auto, cpu.")
        look = ray.remote(num_cpus=1, num_gpus=int(gpu), max_retries=3, max_calls=0)(ray_tasks.look_here)
        reference = look.remote(device)
        if not ray.wait([reference], timeout=LOOK_SECONDS)[0]:
            raise UsageError(
                f"the Ray cluster started no worker in {LOOK_SECONDS:.0f} s; it offers "
                f"{resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs."
            )
        try:
            found = ray.get(reference)
        except ray.exceptions.RayError as error:
            raise UsageError(
                f'a node of the Ray cluster cannot train ({brief(error)}); install "qatplan[train,ray]" on all nodes.'
            ) from None
        if not isinstance(found, Machine):
            raise UsageError(found)
        self._gpu_bytes = found.gpu_bytes
        return found

    def start(self, job: Job, segments: int) -> None:
        ray, self._job = self._ray, job
        # Retries and the processes kept between tasks are given in full: Ray's defaults differ with and without a GPU.
        self._task = ray.remote(num_cpus=1, max_retries=0, max_calls=0)(ray_tasks.attempt)
        # It lives and dies with the driver, whatever nodes come and go.
        self._here = ray.get_runtime_context().get_node_id()
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(self._here, soft=False)
        self._board = ray.remote(num_cpus=0, scheduling_strategy=here)(ray_tasks.Board).remote()
        self._look_around()

    def has_room(self) -> bool:
        if not self._running:
            return True  # Ray keeps it until a node can take it
        if self._workers is not None:
            return len(self._running) < self._workers
        taken = sum(task.share for task in self._running.values())
        return len(self._running) < self._cores and (taken < self._gpus or taken == 0)

    def fits(self, stack: Sequence[Segment]) -> bool:
        return True  # Ray places it where there is room, and kills a worker whose node has none left

    def stack_limit(self, segment: Segment) -> int:
        return self._stacked or stack_size(
            segment.config, self._gpu_bytes and self._gpu_bytes * (self._gpu_share or 1.0)
        )

    def give(self, stack: Sequence[Order]) -> None:
        first = stack[0].segment
        share = 0.0
        if self._gpu_bytes is not None:
            share = self._gpu_share or share_of(first.config, self._gpu_bytes, len(stack))
        self._given += 1
        remote = self._task.options(num_gpus=share, name=f"segment {first.id}").remote
        self._running[remote(self._job, ray_tasks.code_version(), list(stack), self._given, self._board)] = _Task(
            number=self._given, segments={order.segment.id: order.segment for order in stack}, share=share
        )

    def listen(self) -> Iterable[Event]:
        ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=1.0)
        if ended:
            ended, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        yield from self._progress()
        for reference in ended:
            yield from self._end(self._running.pop(reference).segments, reference)

    def _end(self, segments: dict[str, Segment], reference: Any) -> list[Event]:
        """What became of a task that has ended: of those of its segments whose end is not known already."""
        ray = self._ray

        kind = "failed"
        try:
            ends: dict[str, Event] = ray.get(reference)
            return [ends[name] for name in segments]
        except ray.exceptions.NodeDiedError:
            kind, message = "lost", "its node was lost"
        except ray.exceptions.OutOfMemoryError:
            message = "its worker was stopped because its node ran out of memory"
        except ray.exceptions.WorkerCrashedError:
            message = "its worker process died"
        except ray.exceptions.RayError as error:
            message = brief(error)
        return [Event(kind=kind, segment=segment, message=message) for segment in segments.values()]

    def _progress(self) -> Iterator[Event]:
        """What workers posted on the board; once a second."""
        if time.monotonic() - self._looked < 1.0:
            return
        self._look_around()
        try:
            events = self._ray.get(self._board.take.remote(), timeout=5.0)
        except self._ray.exceptions.RayError:
            return  # a late message costs a line on the screen, nothing else
        running = {task.number: task.segments for task in self._running.values()}
        for (number, name), event in events.items():
            segments = running.get(number, {})
            if name in segments:
                if event.kind != "progress":
                    del segments[name]
                yield event

    def _look_around(self) -> None:
        """What the cluster offers now. SweepIncomplete if the driver's own node is gone: Ray would wait for ever."""
        alive = {node["NodeID"]: node["Resources"] for node in self._ray.nodes() if node["Alive"]}
        if self._here not in alive:
            raise SweepIncomplete("the Ray node of this command was lost; repeat the command to go on.")
        self._cores = sum(resources.get("CPU", 0.0) for resources in alive.values())
        self._gpus = sum(resources.get("GPU", 0.0) for resources in alive.values())
        self._looked = time.monotonic()

    def close(self) -> None:
        """Cancels what runs and leaves the cluster."""
        if self._running:
            with contextlib.suppress(self._ray.exceptions.RayError):
                for reference in self._running:
                    self._ray.cancel(reference, force=True)
                self._ray.wait(list(self._running), num_returns=len(self._running), timeout=STOP_SECONDS)
        self._cluster.close()
