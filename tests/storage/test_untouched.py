"""What is the user's stays: special files, links, modes, and whatever no writer of ours has made."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from qatplan.errors import DataError
from qatplan.storage import atomic, incoming
from qatplan.storage.local import LocalStorage


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe.parquet")
    return tmp_path / "pipe.parquet"


def test_a_pipe_is_neither_read_nor_replaced(pipe: Path) -> None:
    for read in (incoming.read_bytes, lambda path: LocalStorage(path.parent).read(path.name)):
        with pytest.raises(DataError, match="no regular file"):
            read(pipe)
    with pytest.raises(DataError, match="no regular file"):
        atomic.write_bytes(pipe, b"x")
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_is_neither_read_nor_replaced() -> None:
    with pytest.raises(DataError, match="no regular file"):
        incoming.read_bytes("/dev/zero")
    with pytest.raises(DataError, match="no regular file"):
        atomic.write_bytes("/dev/null", b"x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_through_a_link_its_target_is_replaced_and_keeps_its_mode(tmp_path: Path) -> None:
    target, link = tmp_path / "there" / "fit.json", tmp_path / "fit.json"
    atomic.write_bytes(target, b"old")
    target.chmod(0o640)
    link.symlink_to(target)
    atomic.write_bytes(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_sweep_changes_nothing_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.pt").write_bytes(b"mine")
    storage = LocalStorage(tmp_path / "sweep")
    storage.write("sweep.json", b"{}")
    (tmp_path / "sweep" / "segments").symlink_to(tmp_path / "mine")
    (tmp_path / "sweep" / "status.json").symlink_to(tmp_path / "mine" / "a.pt")
    with pytest.raises(DataError, match="segments is a link"):
        storage.remove("segments/a.pt")
    with pytest.raises(DataError, match="segments is a link"):
        storage.write("segments/a.pt", b"x")
    with pytest.raises(DataError, match="segments is a link"):
        storage.rename("segments/a.pt", "segments/b.pt")
    with pytest.raises(DataError, match=r"status\.json is a link"):
        storage.write("status.json", b"x")
    (tmp_path / "mine" / ".a.pt.1.0123abcd.tmp").write_bytes(b"")
    storage.remove_temporary("segments")
    assert sorted(os.listdir(tmp_path / "mine")) == [".a.pt.1.0123abcd.tmp", "a.pt"]
    assert (tmp_path / "mine" / "a.pt").read_bytes() == b"mine"


def test_a_link_to_nothing_hides_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "nowhere")
    (tmp_path / "b").write_bytes(b"xy")
    assert LocalStorage(tmp_path).names() == {"a": 0, "b": 2}


def test_only_what_our_writers_call_temporary_is_removed(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    for name in (".mine.tmp", ".b.json.12.tmp", ".b.json.12.0123abcd.tmp", "runs/.c.parquet.7.89abcdef.tmp"):
        storage.write(name, b"x")
    storage.write("other/.d.7.89abcdef.tmp", b"x")
    storage.remove_temporary("runs")
    assert set(storage.names()) == {".mine.tmp", ".b.json.12.tmp", "runs", "other"}
    assert storage.names("runs") == {}
    assert len(storage.names("other")) == 1


def test_what_a_killed_command_left_of_a_file_is_collected_by_the_next(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    stale = tmp_path / f".fit.json.{ended.pid}.0123abcd.tmp"
    running, other = tmp_path / f".fit.json.{os.getppid()}.0123abcd.tmp", tmp_path / f".plan.{ended.pid}.0123abcd.tmp"
    for path in (stale, running, other):
        path.write_bytes(b"half")
    atomic.write_bytes(tmp_path / "fit.json", b"whole")
    assert sorted(tmp_path.iterdir()) == sorted([running, other, tmp_path / "fit.json"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "more than 4300 digits"),
        ('{"a": "é"}'.encode("latin-1"), "not UTF-8 text at byte 7"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8 text at byte 0"),
        (b'{"a": "\\ud800"}', "half of a surrogate pair"),
        (b"{'a': 1}", "line 1, column 2"),
    ],
)
def test_json_that_is_none_of_ours_is_refused_with_the_reason(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        incoming.parse_json(content)
    assert incoming.parse_json(b'{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}
