"""A folder, local or on an S3-compatible server: the same words, the same promises."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.object_store import bucket

from qatplan.errors import DataError, SweepIncomplete, UsageError
from qatplan.storage import lease
from qatplan.storage.base import Entry, Storage, absolute, is_remote, join, seen_from
from qatplan.storage.lease import Lease
from qatplan.storage.local import LocalStorage
from qatplan.storage.object_store import ObjectStorage
from qatplan.storage.open import open_storage


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The options of a URL that reach a server with the bucket `store`."""
    with bucket("store") as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            if name != "AWS_ENDPOINT_URL":
                patch.setenv(name, value)
        yield f"scheme=http&endpoint_override={environment['AWS_ENDPOINT_URL'].removeprefix('http://')}"


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return open_storage(tmp_path / "folder")
    return open_storage(f"s3://store/{tmp_path.name}?{request.getfixturevalue('server')}")


def test_files_are_written_listed_renamed_and_removed(storage: Storage) -> None:
    storage.check()
    assert storage.names() == {}
    assert storage.names("runs") == {}
    storage.write("runs/a.bin", b"one")
    storage.write("runs/a.bin", b"longer")
    storage.write("runs/b.bin", b"")
    storage.write("top", b"x" * 7_000_000)
    assert storage.names("runs") == {"a.bin": 6, "b.bin": 0}
    assert storage.names() == {"runs": None, "top": 7_000_000}
    assert storage.read("runs/a.bin") == b"longer"
    assert storage.exists("runs/a.bin")
    assert not storage.exists("runs")
    assert not storage.exists("runs/c.bin")
    with pytest.raises(FileNotFoundError):
        storage.read("runs/c.bin")
    entry = Entry(storage, "runs/d.bin")
    entry.write(b"four")
    assert storage.read("runs/d.bin") == b"four"
    entry.remove()
    assert not entry.exists()
    storage.rename("runs/a.bin", "runs/b.bin")
    storage.rename("runs/absent", "runs/b.bin")
    assert storage.names("runs") == {"b.bin": 6}
    storage.remove("runs/b.bin")
    storage.remove("runs/b.bin")
    assert storage.names("runs") == {}


def test_the_same_folder_opens_again_from_its_location(storage: Storage) -> None:
    storage.write("a/b", b"c")
    assert open_storage(storage.location).read("a/b") == b"c"
    aside = Entry(storage, "a/b").set_aside()
    assert (aside.name, aside.read(), aside.exists()) == ("b.damaged", b"c", True)
    assert str(aside) == join(storage.location, "a/b.damaged")


def test_a_second_driver_is_refused_and_may_follow(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.01)
    with storage.hold() as check:
        check()
        with (
            pytest.raises(UsageError, match="is in use by another sweep command"),
            open_storage(storage.location).hold(),
        ):
            pass
    with open_storage(storage.location).hold() as check:
        check()
    assert not [name for name in storage.names() if name.startswith("lock.")]


@pytest.fixture
def remote(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStorage:
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.01)
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.1)
    return ObjectStorage(f"s3://store/{tmp_path.name}?{server}")


def test_the_lease_of_a_dead_process_here_is_free_at_once(remote: ObjectStorage) -> None:
    code = (
        "import os, sys; from qatplan.storage import lease; from qatplan.storage.object_store import ObjectStorage\n"
        "store = ObjectStorage(sys.argv[1]); lease.SETTLE_SECONDS = 0\n"
        "lease.Lease(store, store.age_seconds).take(); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", code, remote.location], check=False)
    assert remote.exists(lease.KEY)
    with remote.hold():
        pass


def test_the_lease_of_a_process_elsewhere_ends_by_itself(
    remote: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.write(
        lease.KEY, json.dumps({"token": "other", "host": "far", "pid": 7, "process": "boot pid:[1] 7 1"}).encode()
    )
    with pytest.raises(UsageError, match=r"process 7 on far.*its lease ends 60 seconds"):
        Lease(remote, remote.age_seconds).take()
    monkeypatch.setattr(lease, "SECONDS", 0.0)
    with remote.hold() as check:
        check()


def take_over(remote: ObjectStorage, check: Callable[[], None]) -> None:
    """Write another's lease until its loss is noticed: a renewal just under way may still replace it."""
    for _ in range(100):
        remote.write(lease.KEY, json.dumps({"token": "other", "host": "far", "pid": 7}).encode())
        check()
        time.sleep(0.3)


def test_a_lost_lease_is_noticed(remote: ObjectStorage) -> None:
    with remote.hold() as check, pytest.raises(SweepIncomplete, match="another command took over: process 7 on far"):
        take_over(remote, check)
    assert json.loads(remote.read(lease.KEY))["token"] == "other", "and the other's lease is left alone"


def test_places_that_cannot_be_used_are_one_sentence(server: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ftp://x/y is not a place for a sweep: .* s3://bucket/folder or gs://"):
        open_storage("ftp://x/y")
    with pytest.raises(UsageError, match="names a bucket; a folder in it is needed, such as s3://store/sweep"):
        open_storage(f"s3://store?{server}").check()
    with pytest.raises(DataError, match="there is no bucket nowhere; create it first"):
        open_storage(f"s3://nowhere/sweep?{server}").check()
    with pytest.raises(DataError, match=r"s3://nowhere/sweep/a.* cannot be written"):
        open_storage(f"s3://nowhere/sweep?{server}").write("a", b"x")
    with pytest.raises(DataError, match=r"cannot be reached: Unexpected query parameter"):
        open_storage("s3://store/sweep?color=red").names()
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file; a folder is needed"):
        LocalStorage(tmp_path / "file").check()


def test_what_a_disk_refuses_is_one_sentence(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inner").write_text("x")
    for act, message in (
        (lambda: storage.read("folder"), "folder cannot be read: Is a directory."),
        (lambda: storage.names("file"), "file cannot be listed: Not a directory."),
        (lambda: storage.remove("folder"), "folder cannot be changed: "),
        (lambda: storage.rename("file", "folder"), "file cannot be changed: "),
        (lambda: LocalStorage(tmp_path / "file").hold().__enter__(), "file cannot be written to: "),
    ):
        with pytest.raises(DataError) as caught:
            act()
        assert message in str(caught.value)
    assert storage.names() == {"file": 1, "folder": None}


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    for name in ("a", "runs/.b.parquet.1.0123abcd.tmp", "runs/b.tmp", ".hidden"):
        storage.write(name, b"x")
    storage.remove_temporary("runs")
    assert (storage.names(), storage.names("runs")) == ({"a": 1, "runs": None, ".hidden": 1}, {"b.tmp": 1})


def test_free_space_is_that_of_the_nearest_folder_that_exists(tmp_path: Path) -> None:
    free = LocalStorage(tmp_path / "not" / "yet").free_bytes()
    assert free is not None
    assert free == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)
    assert ObjectStorage("s3://a/b").free_bytes() is None


def test_a_store_that_fails_is_one_sentence() -> None:
    class Failing:
        def __getattr__(self, name: str) -> Callable[..., None]:
            def fail(*_: object) -> None:
                raise OSError("When doing something: no route.\nRequest id 7")

            return fail

    storage = ObjectStorage("s3://a/b?region=eu")
    storage._opened = Failing(), "a/b"
    for act, what in (
        (storage.check, "s3://a/b?region=eu cannot be reached"),
        (lambda: storage.exists("k"), "s3://a/b/k?region=eu cannot be reached"),
        (lambda: storage.names("k"), "s3://a/b/k?region=eu cannot be reached"),
        (lambda: storage.remove("k"), "s3://a/b/k?region=eu cannot be reached"),
        (lambda: storage.rename("k", "l"), "s3://a/b/k?region=eu cannot be reached"),
        (lambda: storage.age_seconds("k", "l"), "s3://a/b/k?region=eu cannot be reached"),
        (lambda: storage.read("k"), "s3://a/b/k?region=eu cannot be read"),
        (lambda: storage.write("k", b""), "s3://a/b/k?region=eu cannot be written"),
    ):
        with pytest.raises(DataError) as caught:
            act()
        assert str(caught.value) == f"{what}: When doing something: no route."


def test_a_file_that_is_not_there_has_no_age(remote: ObjectStorage) -> None:
    remote.write("clock", b"")
    assert remote.age_seconds("absent", "clock") is None
    assert remote.age_seconds("clock", "clock") == 0.0


def test_an_interrupted_local_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("a", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"a cannot be written: No space left on device\."):
        storage.write("a", b"new")
    assert storage.read("a") == b"old"
    assert storage.names() == {"a": 3}


def test_names_of_places() -> None:
    assert absolute("s3://a/b") == "s3://a/b"
    assert absolute("a/b") == str(Path.cwd() / "a" / "b")
    entry = Entry(LocalStorage(Path("a")), "b/c")
    assert (entry.name, str(entry)) == ("c", os.path.join("a", "b", "c"))
    assert is_remote("s3://a/b")
    assert not is_remote("a/b")
    assert not is_remote(Path("s3://a"))
    assert join("s3://a/b/?region=eu", "c/d") == "s3://a/b/c/d?region=eu"
    assert join("a/b", "c") == os.path.join("a/b", "c")


def test_recorded_places_are_seen_from_where_all_are(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "runs").mkdir()
    folders = (tmp_path / "sub", tmp_path)
    assert seen_from(folders, ["runs", "s3://b/k"]) == []
    assert seen_from(folders, ["runs", "gone"]) == []
    assert seen_from(folders, ["s3://b/k"]) == []
    assert seen_from(folders, ["runs"]) == [tmp_path / "runs"]
    assert seen_from(folders, []) == []
