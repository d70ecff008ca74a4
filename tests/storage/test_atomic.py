"""A crash while writing leaves the old file or the new one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import IO

import pytest

from qatplan.errors import DataError
from qatplan.storage import atomic


def test_content_replaces_content(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.bin"
    atomic.write_bytes(target, b"one")
    atomic.write_bytes(target, b"two")
    assert target.read_bytes() == b"two"
    assert os.listdir(target.parent) == ["a.bin"]


def test_a_failure_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    atomic.write_bytes(target, b"old")

    def fail(stream: IO[bytes]) -> None:
        stream.write(b"half of the n")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        atomic.write_with(target, fail)
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_the_order_is_write_sync_replace_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def spied_fsync(descriptor: int) -> None:
        events.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    def spied_replace(source: str, target: str) -> None:
        events.append("replace")
        assert Path(source).parent == Path(target).parent
        assert Path(source).read_bytes() == b"x"
        replace(source, target)

    monkeypatch.setattr(os, "fsync", spied_fsync)
    monkeypatch.setattr(os, "replace", spied_replace)
    atomic.write_bytes(tmp_path / "a", b"x")
    assert events == ["file", "replace", "folder"]


def test_half_written_files_are_no_parquet(tmp_path: Path) -> None:
    def look(stream: IO[bytes]) -> None:
        assert list(tmp_path.glob("*.parquet")) == []
        assert len(list(tmp_path.iterdir())) == 1

    atomic.write_with(tmp_path / "a.parquet", look)


def test_json_keeps_floats_and_refuses_nan(tmp_path: Path) -> None:
    value = {"x": 0.1 + 0.2, "name": "é"}
    atomic.write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == value
    with pytest.raises(ValueError):
        atomic.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == value


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    atomic.write_bytes(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_or_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="is a folder"):
        atomic.write_bytes(tmp_path, b"")
    with pytest.raises(DataError, match="cannot be written"):
        atomic.write_bytes(tmp_path / "file" / "inner", b"")
