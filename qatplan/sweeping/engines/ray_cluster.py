"""A connection to a Ray cluster: to one that exists, or to one of this machine alone that starts and ends with it."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterable
from typing import Any

from qatplan.errors import SweepIncomplete, UsageError
from qatplan.sweeping.engines.environment import WORKER, environment
from qatplan.sweeping.engines.private_folder import PrivateFolder

OBJECT_STORE_BYTES = 80 * 2**20
"""Checkpoints go through the sweep's folder, never through Ray; 75 MiB is the least that Ray accepts."""
CONNECT_SECONDS = 10.0
# Both are read when Ray is imported. With 0 every process of a local cluster listens on 127.0.0.1 alone, also on Linux.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
FEW_RETRIES = {"RAY_NUM_REDIS_GET_RETRIES": "2"}
"""Tries of 40 s each to reach a cluster's head that accepts connections and does not answer."""
QUIET = {"log_to_driver": False, "logging_level": "error"}


class Cluster:
    """The cluster at `address`, or, if that is None, one of so many `cores` on loopback, stopped by `close`."""

    def __init__(self, address: str | None, cores: int) -> None:
        self._address, self._cores = address, cores
        self._scratch: PrivateFolder | None = None
        self.ray: Any = None
        """The `ray` module while it is connected."""

    def connect(self) -> Any:
        """The `ray` module, connected; UsageError or SweepIncomplete where that fails."""
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
        _print_messages(self.ray, False)
        return self.ray

    def close(self) -> None:
        """Leave the cluster; one that was started here is stopped, its folder removed."""
        if self.ray is not None:
            self.ray.shutdown()
            _print_messages(self.ray, True)
            self.ray = None
        if self._scratch is not None:
            self._scratch.remove()
            self._scratch = None

    def _start_local(self) -> None:
        # No usage reports from a cluster that the user did not ask for; whoever wants them sets the variable.
        quiet = {} if "RAY_USAGE_STATS_ENABLED" in os.environ else {"RAY_USAGE_STATS_ENABLED": "0"}
        with environment({**WORKER, **LOOPBACK, **quiet}):
            ray = _import_ray()
            # Ray opens its own folder to everybody, so that lies in one that is nobody else's.
            self._scratch = PrivateFolder()
            self.ray = ray  # an interruption may leave it half started
            try:
                ray.init(
                    address="local", num_cpus=self._cores, include_dashboard=False, job_config=_job_config(ray),
                    object_store_memory=OBJECT_STORE_BYTES, _temp_dir=str(self._scratch.path / "r"), **QUIET,
                )  # fmt: skip
            except Exception as error:  # a bare one where a machine is so busy that Ray's processes are late
                raise SweepIncomplete(
                    f"the Ray cluster of this machine did not start ({brief(error)}); repeat the command to try again."
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
        self.ray = ray
        try:
            ray.init(address=address, job_config=_job_config(ray), runtime_env={"env_vars": WORKER}, **QUIET)
        except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
            raise UsageError(f"--address {address}: no Ray cluster could be joined ({brief(error)}).") from None


def brief(error: BaseException) -> str:
    """The last line of an error that says something: Ray's messages are pages long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(".")


def _import_ray() -> Any:
    """The module, imported without interruption: half a Ray complains at the end of the process."""
    blocked = {signal.SIGINT, signal.SIGTERM}
    if os.name == "posix":
        signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        import ray
    finally:
        if os.name == "posix":
            signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
    if ray.is_initialized():
        raise UsageError("this process is connected to a Ray cluster already; call ray.shutdown() first.")
    return ray


class _NoFolders(list[str]):
    """The folders of the driver, which Ray has its workers import from before all others: none."""

    def extend(self, folders: Iterable[str]) -> None:
        """Ray adds the driver's current folder and that of its script."""


def _job_config(ray: Any) -> Any:
    """Workers import what is installed where they run, as PYTHONSAFEPATH has it; there is no public switch for Ray."""
    config = ray.job_config.JobConfig()
    config._py_driver_sys_path = _NoFolders()
    return config


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


def _print_messages(ray: Any, wanted: bool) -> None:
    """Whether the cluster's messages (a lost node is pages) go to stdout, which is for data; log_to_driver leaves them.

    This is the switch that Ray's own debugger uses; there is no public one.
    """
    ray._private.worker._worker_logs_enabled = wanted
