"""The Ray engine: each segment a task of Ray Core, on a cluster that exists or on one of this machine alone.

Ray places tasks and reports what became of them. Order and retries are the plan's, as with
every engine.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from qatplan.errors import MissingExtra, SweepIncomplete, UsageError
from qatplan.sweep.engines import ray_tasks
from qatplan.sweep.engines.engine import (
    Attempt,
    Engine,
    Event,
    Job,
    Order,
)
from qatplan.sweep.engines.environment import WORKER, environment
from qatplan.sweep.engines.gpu_share import share_of, stack_size
from qatplan.sweep.engines.local import default_workers
from qatplan.sweep.graph import Machine, Segment

OBJECT_STORE_BYTES = 80 * 2**20
"""Checkpoints go through the sweep's folder, never through Ray; 75 MiB is the least that Ray accepts."""
LOOK_SECONDS = 120.0
"""Time for the first worker to come up before a cluster is held to be unusable."""
STOP_SECONDS = 10.0
"""Time for cancelled workers to end."""
CONNECT_SECONDS = 10.0
# Both are read when Ray is imported. With 0 every process of a local cluster listens on 127.0.0.1 alone, also on Linux.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
FEW_RETRIES = {"RAY_NUM_REDIS_GET_RETRIES": "2"}
"""Tries of 40 s each to reach a cluster's head that accepts connections and does not answer."""


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
    trains up to `together` segments as one stack; default: on a GPU by its memory, on a CPU 1.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        address: str | None = None,
        gpu_share: float | None = None,
        together: int | None = None,
    ) -> None:
        if importlib.util.find_spec("ray") is None:
            raise MissingExtra('--engine ray needs the ray extra: pip install "qatplan[ray]".')
        self._workers, self._address, self._gpu_share, self._together = workers, address, gpu_share, together
        self._scratch: Path | None = None
        self._joined = False
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
        ray = self._connect()
        resources = ray.cluster_resources()
        gpu = device != "cpu" and resources.get("GPU", 0) > 0
        if device == "cuda" and not gpu:
            raise UsageError("device cuda: no node of the Ray cluster offers a GPU; allowed here: auto, cpu.")
        look = ray.remote(num_cpus=1, num_gpus=int(gpu), max_retries=3, max_calls=0)(ray_tasks.look)
        reference = look.remote(device)
        if not ray.wait([reference], timeout=LOOK_SECONDS)[0]:
            raise UsageError(
                f"the Ray cluster started no worker in {LOOK_SECONDS:.0f} s; it offers "
                f"{resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs."
            )
        try:
            node = ray.get(reference)
        except ray.exceptions.RayError as error:
            raise UsageError(
                f'a node of the Ray cluster cannot train ({_brief(error)}); install "qatplan[train,ray]" on all nodes.'
            ) from None
        if not isinstance(node, ray_tasks.Node):
            raise UsageError(node)
        self._gpu_bytes = node.gpu_bytes
        return node.machine

    def start(self, job: Job, segments: int) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._job = job
        # Retries and the processes kept between tasks are said in full: Ray's defaults differ with and without a GPU.
        self._task = ray.remote(num_cpus=1, max_retries=0, max_calls=0)(ray_tasks.attempt)
        # It lives and dies with the driver, whatever nodes come and go.
        self._here = ray.get_runtime_context().get_node_id()
        here = NodeAffinitySchedulingStrategy(self._here, soft=False)
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

    def most_together(self, segment: Segment) -> int:
        if self._together is not None:
            return self._together
        if self._gpu_bytes is None:
            return 1
        return stack_size(segment.config, self._gpu_bytes * (self._gpu_share or 1.0))

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
        import ray

        ended, _ = ray.wait(list(self._running), num_returns=1, timeout=1.0)
        if ended:
            ended, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        yield from self._progress()
        for reference in ended:
            yield from self._end(self._running.pop(reference).segments, reference)

    @staticmethod
    def _end(segments: dict[str, Segment], reference: Any) -> Iterator[Event]:
        """What became of a task that has ended: of those of its segments whose end is not known already."""
        import ray

        def failed(message: str) -> dict[str, Attempt]:
            return dict.fromkeys(segments, Attempt(kind="failed", message=message))

        try:
            attempts: dict[str, Attempt] = ray.get(reference)
        except ray.exceptions.NodeDiedError:
            for segment in segments.values():
                yield Event(kind="lost", segment=segment, message="its node was lost")
            return
        except ray.exceptions.OutOfMemoryError:
            attempts = failed("its worker was stopped because its node ran out of memory")
        except ray.exceptions.WorkerCrashedError:
            attempts = failed("its worker process died")
        except ray.exceptions.RayError as error:
            attempts = failed(_brief(error))
        for name, segment in segments.items():
            yield from attempts[name].events(segment)

    def _progress(self) -> Iterator[Event]:
        """What workers told the board; once a second."""
        import ray

        if time.monotonic() - self._looked < 1.0:
            return
        self._look_around()
        try:
            news = ray.get(self._board.take.remote(), timeout=5.0)
        except ray.exceptions.RayError:
            return  # late news costs a line on the screen, nothing else
        running = {task.number: task.segments for task in self._running.values()}
        for (number, name), said in news.items():
            segments = running.get(number, {})
            if name in segments and isinstance(said, int):
                yield Event(kind="progress", segment=segments[name], steps=said)
            elif name in segments and isinstance(said, Attempt):
                yield from said.events(segments.pop(name))

    def _look_around(self) -> None:
        """What the cluster offers now. SweepIncomplete if the driver's own node is gone: Ray would wait for ever."""
        import ray

        alive = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
        if self._here not in alive:
            raise SweepIncomplete("the Ray node of this command was lost; repeat the command to go on.")
        self._cores = sum(resources.get("CPU", 0.0) for resources in alive.values())
        self._gpus = sum(resources.get("GPU", 0.0) for resources in alive.values())
        self._looked = time.monotonic()

    def close(self) -> None:
        """Cancels what runs and leaves the cluster; one that was started here is stopped, its folder removed."""
        if self._joined:
            import ray

            with contextlib.suppress(ray.exceptions.RayError):
                for reference in self._running:
                    ray.cancel(reference, force=True)
                if self._running:
                    ray.wait(list(self._running), num_returns=len(self._running), timeout=STOP_SECONDS)
            ray.shutdown()
            _print_of_ray(True)
            self._joined = False
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _connect(self) -> Any:
        """The `ray` module, connected."""
        before = signal.getsignal(signal.SIGTERM)
        try:
            if self._address is None:
                self._start_local()
            else:
                self._join(self._address)
        except SystemExit:
            raise KeyboardInterrupt from None  # SIGTERM while Ray's own handler was in place
        finally:
            # Left in place, that handler ends in an abort with a stack trace.
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)
        _print_of_ray(False)
        import ray

        return ray

    def _start_local(self) -> None:
        # No usage reports from a cluster that the user did not ask for; whoever wants them sets the variable.
        quiet = {} if "RAY_USAGE_STATS_ENABLED" in os.environ else {"RAY_USAGE_STATS_ENABLED": "0"}
        with environment({**WORKER, **LOOPBACK, **quiet}):
            ray = _import_ray()
            self._refuse_connected(ray)
            # Not tempfile's default: the paths of Ray's sockets must stay below 100 characters.
            self._scratch = Path(tempfile.mkdtemp(prefix="qatplan-ray-", dir="/tmp" if os.name == "posix" else None))
            self._joined = True  # an interruption may leave it half started
            try:
                ray.init(
                    address="local", num_cpus=self._workers or default_workers("cpu"), include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES, _temp_dir=str(self._scratch), **_quiet(),
                )  # fmt: skip
            except Exception as error:  # a bare one where a machine is so busy that Ray's processes are late
                raise SweepIncomplete(
                    f"the Ray cluster of this machine did not start ({_brief(error)}); repeat the command to try again."
                ) from error
        bound = {node["NodeManagerAddress"] for node in ray.nodes()}
        if bound != {"127.0.0.1"}:
            raise UsageError(
                f"the local Ray cluster listens on {', '.join(sorted(bound))}, not on 127.0.0.1 alone, because ray was "
                "imported before the engine; set RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 before importing it."
            )

    def _join(self, address: str) -> None:
        _check_address(address)
        with environment(FEW_RETRIES):
            ray = _import_ray()
        self._refuse_connected(ray)
        self._joined = True
        try:
            ray.init(address=address, runtime_env={"env_vars": WORKER}, **_quiet())
        except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
            raise UsageError(f"--address {address}: no Ray cluster could be joined ({_brief(error)}).") from None

    @staticmethod
    def _refuse_connected(ray: Any) -> None:
        if ray.is_initialized():
            raise UsageError("this process is connected to a Ray cluster already; call ray.shutdown() first.")


def _import_ray() -> Any:
    """The module, imported without interruption: half a Ray complains at the end of the process."""
    held = {signal.SIGINT, signal.SIGTERM}
    if os.name == "posix":
        signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        import ray
    finally:
        if os.name == "posix":
            signal.pthread_sigmask(signal.SIG_UNBLOCK, held)
    return ray


def _check_address(address: str) -> None:
    """UsageError unless something listens there: Ray itself would try for a quarter of an hour."""
    if address == "auto":
        return
    if address.startswith("ray://"):
        raise UsageError(
            f"--address {address} is a Ray Client address; run the command on a node of the cluster with --address "
            "auto, or name its HOST:PORT."
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--address {address} is neither HOST:PORT nor auto.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise UsageError(f"--address {address}: nothing answers there ({error.strerror or error}).") from None


def _quiet() -> dict[str, Any]:
    return {"log_to_driver": False, "logging_level": "error"}


def _print_of_ray(wanted: bool) -> None:
    """Whether the cluster's messages (a lost node is pages) go to stdout, which is for data; log_to_driver leaves them.

    This is the switch that Ray's own debugger uses; there is no public one.
    """
    from ray._private import worker

    worker._worker_logs_enabled = wanted


def _brief(error: BaseException) -> str:
    """The last line of an error that says something: Ray's messages are pages long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(".")
