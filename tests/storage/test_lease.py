"""The lease on a folder: who may drive, what ends it, and what a store out of reach does to it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from qatplan.errors import DataError, SweepIncomplete, UsageError
from qatplan.storage import lease
from qatplan.storage.base import Storage
from qatplan.storage.lease import KEY, Lease


class Shelf(Storage):
    """Files in memory, with a switch that puts them out of reach."""

    location = "shelf"

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.reachable = True
        self.renewals = 0
        self.after_write: Callable[[], None] = lambda: None

    def read(self, key: str) -> bytes:
        self._reach()
        try:
            return self.files[key]
        except KeyError:
            raise FileNotFoundError(key) from None

    def write(self, key: str, content: bytes) -> None:
        self._reach()
        self.files[key] = content
        self.renewals += key == KEY
        self.after_write()

    def remove(self, key: str) -> None:
        self._reach()
        self.files.pop(key, None)

    def _reach(self) -> None:
        if not self.reachable:
            raise DataError("shelf cannot be reached: no route.")

    check = exists = names = rename = remove_temporary = free_bytes = hold = None  # type: ignore[assignment]


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.01)
    return Shelf()


@pytest.fixture
def held(shelf: Shelf) -> Iterator[Lease]:
    claim = Lease(shelf, lambda key, clock: 1.0)
    claim.take()
    yield claim
    claim.give_back()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def lost(claim: Lease) -> bool:
    try:
        claim.check()
    except SweepIncomplete:
        return True
    return False


def other(**owner: object) -> bytes:
    return json.dumps({"token": "other", "host": "far", "pid": 7, **owner}).encode()


def test_a_lease_is_renewed_and_given_back(shelf: Shelf, held: Lease) -> None:
    eventually(lambda: shelf.renewals > 3)
    held.check()
    held.give_back()
    assert shelf.files == {}


def test_a_store_out_of_reach_for_a_moment_ends_nothing(shelf: Shelf, held: Lease) -> None:
    shelf.reachable = False
    time.sleep(0.1)
    shelf.reachable = True
    before = shelf.renewals
    eventually(lambda: shelf.renewals > before)
    held.check()


def test_a_store_out_of_reach_for_longer_than_the_lease_loses_it(
    shelf: Shelf, held: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SECONDS", 0.05)
    shelf.reachable = False
    eventually(lambda: lost(held))
    message = r"the lock on shelf is lost \(shelf cannot be reached: no route\); repeat the command to go on\."
    with pytest.raises(SweepIncomplete, match=message):
        held.check()
    held.give_back()  # ends by itself, without an error
    assert KEY in shelf.files


@pytest.mark.parametrize("content", [other(), None])
def test_another_driver_takes_the_lease(shelf: Shelf, held: Lease, content: bytes | None) -> None:
    def take_over() -> bool:
        if content is None:
            shelf.files.pop(KEY, None)
        else:
            shelf.files[KEY] = content
        return lost(held)

    eventually(take_over)
    name = "process 7 on far" if content else "process unknown on an unknown host"
    with pytest.raises(SweepIncomplete, match=f"another command took over: {name}"):
        held.check()
    held.give_back()
    assert shelf.files.get(KEY) == content


def test_of_two_in_one_instant_the_last_to_write_has_it(shelf: Shelf) -> None:
    shelf.after_write = lambda: shelf.files.update({KEY: other()})
    claim = Lease(shelf, lambda key, clock: None)
    with pytest.raises(UsageError, match=r"--out shelf is in use by another sweep command \(process 7 on far\)"):
        claim.take()
    claim.give_back()
    assert shelf.files[KEY] == other()


@pytest.mark.parametrize("age", [1.0, None, 61.0])
def test_the_age_of_a_lease_decides(shelf: Shelf, age: float | None) -> None:
    shelf.files[KEY] = other()
    claim = Lease(shelf, lambda key, clock: age if key == KEY and clock in shelf.files else pytest.fail(key))
    if age == 1.0:
        with pytest.raises(UsageError, match="its lease ends 60 seconds after its last sign of life, or delete"):
            claim.take()
        assert shelf.files == {KEY: other()}
    else:
        claim.take()
        claim.give_back()
        assert shelf.files == {}


@pytest.mark.parametrize("content", [b"{half", b"[]"])
def test_a_lease_that_makes_no_sense_is_somebodys(shelf: Shelf, content: bytes) -> None:
    shelf.files[KEY] = content
    with pytest.raises(UsageError, match="process unknown on an unknown host"):
        Lease(shelf, lambda key, clock: 1.0).take()


def test_a_lease_that_is_replaced_while_it_is_read_is_read_again(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = iter([b"{half", b"", other()])
    monkeypatch.setattr(shelf, "read", lambda key: next(contents))
    with pytest.raises(UsageError, match="process 7 on far"):
        Lease(shelf, lambda key, clock: 1.0).take()


def test_a_process_that_ended_unwatched_holds_nothing(shelf: Shelf) -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        identity = lease._identity(child.pid)
        shelf.files[KEY] = other(pid=child.pid, process=identity)
        with pytest.raises(UsageError, match=f"process {child.pid} on far"):
            Lease(shelf, lambda key, clock: 1.0).take()
        child.kill()
        eventually(lambda: lease._identity(child.pid) is None)  # a zombie: its parent has not waited
        claim = Lease(shelf, lambda key, clock: 1.0)
        claim.take()
        claim.give_back()
    finally:
        child.kill()
        child.wait()
