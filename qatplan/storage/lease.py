"""A lease on a folder of an object store: who drives the sweep there, renewed while it does, expiring when it does not.

Object stores reached through `pyarrow.fs` offer no compare-and-swap, so this is no lock in the strict sense: two
drivers that start within the same instant are told apart by reading back what was written, and one that stalled for
longer than the lease finds out at its next renewal. In between both may work, which costs time and nothing else: files
are whole or absent, and the same segment gives the same content whoever trains it.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from qatplan.errors import DataError, SweepIncomplete, UsageError
from qatplan.storage.base import Storage, join

KEY = "lock.json"
SECONDS = 60.0
"""A lease not renewed for this long is over."""
RENEW_SECONDS = 15.0
SETTLE_SECONDS = 2.0
"""Between writing a lease and reading it back: longer than a small upload takes."""
READS = 5
"""Times a lease is read that makes no sense."""


class Lease:
    """One driver's claim. `take`, then `check` now and then, then `give_back`."""

    def __init__(self, storage: Storage, age: Callable[[str, str], float | None]) -> None:
        """`age(key, clock)`: by how many seconds one file is older than another, by the store's own clock."""
        self.storage = storage
        self._seconds_between = age
        self.token = os.urandom(8).hex()
        self._ended = threading.Event()
        self._lost: str | None = None
        self._thread: threading.Thread | None = None

    def take(self) -> None:
        """Claim the folder; UsageError if somebody else holds it."""
        other = self._holder()
        if other is not None and not _is_dead(other):
            age = self._age()
            if age is not None and age < SECONDS:
                raise UsageError(self._refusal(other))
        self._write()
        time.sleep(SETTLE_SECONDS)
        other = self._holder()
        if other is None or other.get("token") != self.token:
            raise UsageError(self._refusal(other or {}))
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise SweepIncomplete if the lease was lost."""
        if self._lost is not None:
            raise SweepIncomplete(
                f"the lock on {self.storage.location} is lost ({self._lost}); repeat the command to go on."
            )

    def give_back(self) -> None:
        """End the lease if it is still ours."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        try:
            holder = self._holder()
            if holder is not None and holder.get("token") == self.token:
                self.storage.remove(KEY)
        except DataError:
            return  # the store is out of reach: the lease ends by itself

    def _write(self) -> None:
        pid = os.getpid()
        owner = {"token": self.token, "host": socket.gethostname(), "pid": pid, "process": _identity(pid)}
        self.storage.write(KEY, json.dumps(owner).encode())

    def _holder(self) -> dict[str, Any] | None:
        for _ in range(READS):
            try:
                owner = json.loads(self.storage.read(KEY))
            except FileNotFoundError:
                return None
            except ValueError:
                continue  # replaced while it was read: its size was the old one's, its content the new one's
            return owner if isinstance(owner, dict) else {}
        return {}

    def _age(self) -> float | None:
        """Seconds since the lease was renewed, by the store's clock."""
        probe = f"lock.{self.token}"
        self.storage.write(probe, b"")
        try:
            return self._seconds_between(KEY, probe)
        finally:
            self.storage.remove(probe)

    def _renew(self) -> None:
        renewed = time.monotonic()
        while not self._ended.wait(RENEW_SECONDS):
            try:
                holder = self._holder()
                if holder is None or holder.get("token") != self.token:
                    self._lost = f"another command took over: {_name(holder or {})}"
                    return
                self._write()
                renewed = time.monotonic()
            except DataError as error:
                if time.monotonic() - renewed > SECONDS:
                    self._lost = str(error).rstrip(".")
                    return

    def _refusal(self, owner: dict[str, Any]) -> str:
        return (
            f"--out {self.storage.location} is in use by another sweep command ({_name(owner)}); if that one is gone, "
            f"its lease ends {SECONDS:.0f} seconds after its last sign of life, or delete "
            f"{join(self.storage.location, KEY)}."
        )


def _name(owner: dict[str, Any]) -> str:
    return f"process {owner.get('pid', 'unknown')} on {owner.get('host', 'an unknown host')}"


def _identity(pid: int) -> str | None:
    """A name for a process that no other has, or None where the system does not tell: boot, pid namespace, start."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as boot, open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
            state, start = fields[0], fields[19]
            if state in "ZX":
                return None  # ended, and only its parent has not looked yet
            return f"{boot.read().strip()} {os.readlink('/proc/self/ns/pid')} {pid} {start}"
    except OSError:
        return None


def _is_dead(owner: dict[str, Any]) -> bool:
    """Whether the holder was a process of this very system that is no more: then nobody has to wait for the lease."""
    mine, its = _identity(os.getpid()), owner.get("process")
    if mine is None or not isinstance(its, str) or its.split()[:2] != mine.split()[:2]:
        return False
    return _identity(int(its.split()[2])) != its
