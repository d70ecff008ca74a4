"""Where a sweep stands, in a file of its folder: DIR/status.json, written by the driver and read by any other process.

The file is a courtesy, never a source of truth: what is done is what has a row or a checkpoint. It is replaced as a
whole every few seconds, by a thread of its own, so that a slow disk or store holds up nothing; a reader sees one state
or the next and never half of one. If it cannot be written the sweep goes on.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

from qatplan import runs
from qatplan.errors import DataError, UsageError
from qatplan.storage.base import Entry, Location
from qatplan.storage.incoming import parse_json
from qatplan.storage.typed import parse
from qatplan.sweeping.engines.engine import Event
from qatplan.sweeping.folder import SweepFolder
from qatplan.sweeping.progress.progress import Watcher
from qatplan.sweeping.progress.state import Snapshot

NAME = "status.json"
WRITE_SECONDS = 4.0
SILENT_SECONDS = 30.0
"""A driver that has not written for this long is taken for dead: it writes every four seconds, busy or not. Between
machines this supposes clocks that agree to some seconds."""


class StatusFile(Watcher):
    """Keeps DIR/status.json; if that fails `notify` is called once; the next state is tried again."""

    def __init__(self, folder: SweepFolder, notify: Callable[[str], None]) -> None:
        self._entry = Entry(folder.storage, NAME)
        self._notify = notify
        self._notified = False
        self._driver = {"host": socket.gethostname(), "pid": os.getpid()}
        self._latest: Snapshot | None = None
        self._over = threading.Event()
        self._writer = threading.Thread(target=self._keep, name="qatplan-status", daemon=True)

    def begin(self, snapshot: Snapshot) -> None:
        self._write(snapshot)
        self._writer.start()

    def event(self, event: Event, snapshot: Snapshot) -> None:
        self._latest = snapshot

    def tick(self, snapshot: Snapshot) -> None:
        self._latest = snapshot

    def end(self, snapshot: Snapshot) -> None:
        self._over.set()
        self._writer.join()
        self._write(snapshot)

    def _keep(self) -> None:
        while not self._over.wait(WRITE_SECONDS):
            if self._latest is not None:
                self._write(self._latest)

    def _write(self, snapshot: Snapshot) -> None:
        content = {"driver": self._driver, "updated": time.time(), **asdict(snapshot)}
        try:
            self._entry.write(json.dumps(content, allow_nan=False).encode())
        except (DataError, OSError) as error:
            if not self._notified:
                self._notified = True
                self._notify(f"{str(error).rstrip('.')}; the sweep goes on without its status.")


@dataclass(frozen=True, kw_only=True)
class _Driver:
    host: str
    pid: int


@dataclass(frozen=True, kw_only=True)
class _Sign:
    """The driver's last sign of life."""

    driver: _Driver
    updated: float


@dataclass(frozen=True, kw_only=True)
class Status:
    """A sweep seen from outside."""

    folder: str
    state: str
    """running, complete, incomplete, interrupted, stopped (its driver was killed), or unknown (it left no status)."""
    rows: int
    """Row files there are now."""
    diverged: int | None
    """How many of them are of diverged runs; None if the table cannot be read just now."""
    host: str | None
    pid: int | None
    seconds_since: float | None
    """Since the driver's last sign of life."""
    snapshot: Snapshot | None


def read(location: Location) -> Status:
    """The status of the sweep at `location`; UsageError if there is no sweep there, DataError if it is damaged."""
    folder = SweepFolder(location)
    if not folder.identity.exists():
        raise UsageError(f"--status {folder.location} holds no sweep; name the folder given to --out.")
    rows = sum(name.endswith(".parquet") for name in folder.storage.names("runs"))
    status = partial(Status, folder=folder.location, rows=rows, diverged=_diverged(folder) if rows else 0)
    entry = Entry(folder.storage, NAME)
    try:
        content = parse_json(entry.read())
        snapshot, sign = parse(Snapshot, content), parse(_Sign, content)
        host, pid, age = sign.driver.host, sign.driver.pid, time.time() - sign.updated
    except FileNotFoundError:
        return status(state="unknown", host=None, pid=None, seconds_since=None, snapshot=None)
    except (DataError, ValueError) as error:
        why = str(error).rstrip(".")
        raise DataError(
            f"{entry} is damaged or of another version ({why}); the next sweep command replaces it."
        ) from error
    # The sign of a clock that was set back is as old as that of one that ran on.
    silent = snapshot.state == "running" and abs(age) > SILENT_SECONDS
    state = "stopped" if silent else snapshot.state
    return status(state=state, host=host, pid=pid, seconds_since=max(0.0, age), snapshot=snapshot)


def _diverged(folder: SweepFolder) -> int | None:
    try:
        statuses: list[str] = runs.read([folder.location]).column("status").to_pylist()
    except (DataError, OSError):
        return None  # a damaged row is the next command's to report and to make again
    return statuses.count(runs.DIVERGED)
