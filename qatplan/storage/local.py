"""A sweep's folder on a local or mounted disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from qatplan.errors import DataError, UsageError
from qatplan.storage import atomic
from qatplan.storage.base import Storage


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
            return (self.path / key).read_bytes()

    def write(self, key: str, content: bytes) -> None:
        atomic.write_bytes(self.path / key, content)

    def exists(self, key: str) -> bool:
        return (self.path / key).is_file()

    def names(self, folder: str = "") -> dict[str, int | None]:
        try:
            with self._reporting(folder, "listed"), os.scandir(self.path / folder) as found:
                return {entry.name: None if entry.is_dir() else entry.stat().st_size for entry in found}
        except FileNotFoundError:
            return {}

    def remove(self, key: str) -> None:
        with self._reporting(key, "changed"):
            (self.path / key).unlink(missing_ok=True)

    def rename(self, key: str, new: str) -> None:
        with self._reporting(key, "changed"), suppress(FileNotFoundError):
            os.replace(self.path / key, self.path / new)

    def remove_temporary(self) -> None:
        for stale in self.path.rglob(".*.tmp"):
            with self._reporting(str(stale.relative_to(self.path)), "changed"):
                stale.unlink(missing_ok=True)

    def free_bytes(self) -> int | None:
        existing = next(parent for parent in (self.path, *self.path.absolute().parents) if parent.exists())
        return shutil.disk_usage(existing).free

    @contextmanager
    def hold(self) -> Iterator[Callable[[], None]]:
        import fcntl

        with self._reporting("", "written to"):
            self.path.mkdir(parents=True, exist_ok=True)
            stream = open(self.path / "lock", "a+")  # noqa: SIM115
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
