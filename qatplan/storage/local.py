"""A sweep's folder on a local or mounted disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from qatplan.errors import DataError, UsageError
from qatplan.storage import atomic, incoming
from qatplan.storage.base import Storage

_LARGEST = 2**40
"""Bytes of a checkpoint that are read."""
_LOCK = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class LocalStorage(Storage):
    """A folder on a local or mounted disk: fsync and atomic rename, and a lock that the system frees."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.location = str(path)

    def check(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"--out {self.path} is a file; a folder is needed.")

    def read(self, key: str) -> bytes:
        with self._reporting(key, "read"):
            return incoming.read_bytes(self.path / key, _LARGEST)

    def write(self, key: str, content: bytes) -> None:
        place = self._own(key)
        if place.is_symlink():
            raise DataError(f"{place} is a link, which a sweep does not follow; remove it.")
        atomic.write_with(place, lambda stream: stream.write(content))

    def exists(self, key: str) -> bool:
        return (self.path / key).is_file()

    def names(self, folder: str = "") -> dict[str, int | None]:
        try:
            with self._reporting(folder, "listed"), os.scandir(self.path / folder) as found:
                return {entry.name: _size(entry) for entry in found}
        except FileNotFoundError:
            return {}

    def _own(self, key: str) -> Path:
        """The path of what will be changed: a file of this very folder, not of one that a link in it points to."""
        place = self.path / key
        if place.parent != self.path and place.parent.is_symlink():
            raise DataError(f"{place.parent} is a link, which a sweep does not follow; put a folder in its place.")
        return place

    def remove(self, key: str) -> None:
        with self._reporting(key, "changed"):
            self._own(key).unlink(missing_ok=True)

    def rename(self, key: str, new: str) -> None:
        with self._reporting(key, "changed"), suppress(FileNotFoundError):
            os.replace(self._own(key), self._own(new))

    def remove_temporary(self, *folders: str) -> None:
        for folder in ("", *folders):
            if (self.path / folder).is_symlink() and folder:
                continue
            for name in filter(atomic.is_temporary, self.names(folder)):
                self.remove(f"{folder}/{name}" if folder else name)

    def free_bytes(self) -> int | None:
        existing = next(parent for parent in (self.path, *self.path.absolute().parents) if parent.exists())
        return shutil.disk_usage(existing).free

    @contextmanager
    def hold(self) -> Iterator[Callable[[], None]]:
        import fcntl

        with self._reporting("", "written to"):
            self.path.mkdir(parents=True, exist_ok=True)
            stream = os.fdopen(os.open(self.path / "lock", _LOCK, 0o666), "a+")
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UsageError(f"--out {self.path} is in use by another sweep command.") from error
            yield lambda: None  # the system keeps the lock as long as this process lives

    @contextmanager
    def _reporting(self, key: str, what: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise DataError(f"{self.path / key} cannot be {what}: {error.strerror or error}.") from error


def _size(entry: os.DirEntry[str]) -> int | None:
    try:
        return None if entry.is_dir() else entry.stat().st_size
    except FileNotFoundError:
        return 0  # a link to nothing, or a file that was removed just now
