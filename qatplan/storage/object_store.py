"""A sweep's folder in an object store (s3://, gs://), through `pyarrow.fs`.

An upload appears when it is complete and not before, so publishing is one upload. A store has no lock that ends with
its holder; `qatplan.storage.lease` stands in for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

from qatplan.errors import DataError, UsageError, first_line
from qatplan.storage.base import Storage, join
from qatplan.storage.lease import Lease


class ObjectStorage(Storage):
    """A prefix of a bucket; credentials, region and endpoint come from where `pyarrow.fs` finds them."""

    def __init__(self, url: str) -> None:
        self.location = url

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """The file system and the folder's path in it, connected to on first use."""
        import pyarrow as pa
        from pyarrow import fs

        try:
            system, path = fs.FileSystem.from_uri(self.location)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DataError(f"{self.location} cannot be reached: {first_line(error)}.") from error
        return system, path.rstrip("/")

    def _at(self, key: str) -> tuple[Any, str]:
        system, path = self._opened
        return system, f"{path}/{key}" if key else path

    def check(self) -> None:
        from pyarrow import fs

        system, path = self._opened
        bucket = path.split("/", 1)[0]
        if "/" not in path:
            example = join(self.location, "sweep")
            raise UsageError(f"--out {self.location} names a bucket; a folder in it is needed, such as {example}.")
        with self._reporting(""):
            found = system.get_file_info(bucket)
        if found.type == fs.FileType.NotFound:
            raise DataError(f"{self.location} cannot be used: there is no bucket {bucket}; create it first.")

    def read(self, key: str) -> bytes:
        system, path = self._at(key)
        with self._reporting(key, "read"), system.open_input_file(path) as stream:
            content: bytes = stream.readall()
            return content

    def write(self, key: str, content: bytes) -> None:
        system, path = self._at(key)

        def upload() -> None:
            stream = system.open_output_stream(path)
            stream.write(content)
            stream.close()

        # In a thread of its own, because Ctrl-C between opening and writing would publish an empty object.
        with self._reporting(key, "written"), ThreadPoolExecutor(1) as thread:
            thread.submit(upload).result()

    def exists(self, key: str) -> bool:
        from pyarrow import fs

        system, path = self._at(key)
        with self._reporting(key):
            return bool(system.get_file_info(path).type == fs.FileType.File)

    def names(self, folder: str = "") -> dict[str, int | None]:
        from pyarrow import fs

        system, path = self._at(folder)
        with self._reporting(folder):
            found = system.get_file_info(fs.FileSelector(path, allow_not_found=True))
        # A store may keep an empty object as the mark of a folder: it has no name below the folder.
        return {
            info.base_name: info.size if info.type == fs.FileType.File else None for info in found if info.base_name
        }

    def remove(self, key: str) -> None:
        system, path = self._at(key)
        with self._reporting(key), suppress(FileNotFoundError):
            system.delete_file(path)

    def rename(self, key: str, new: str) -> None:
        # A copy and then a deletion: a crash in between leaves both, which is no loss.
        if self.exists(key):
            system, path = self._at(key)
            with self._reporting(key):
                system.move(path, self._at(new)[1])

    def remove_temporary(self, *folders: str) -> None:
        """Nothing is ever there half-written; a store's own rule for unfinished uploads clears what a kill left."""

    def free_bytes(self) -> int | None:
        return None

    @contextmanager
    def hold(self) -> Iterator[Callable[[], None]]:
        lease = Lease(self, self.age_seconds)
        lease.take()
        try:
            yield lease.check
        finally:
            lease.give_back()

    @contextmanager
    def _reporting(self, key: str, what: str = "reached") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if what == "read" and isinstance(error, FileNotFoundError):
                raise
            name = join(self.location, key) if key else self.location
            raise DataError(f"{name} cannot be {what}: {first_line(error)}.") from error

    def age_seconds(self, key: str, clock: str) -> float | None:
        """How much older the file is than `clock`, a file just written: by the store's own time, whatever ours is.

        None if the file is not there.
        """
        system, path = self._at(key)
        with self._reporting(key):
            old, new = system.get_file_info([path, self._at(clock)[1]])
        if old.mtime is None or new.mtime is None:
            return None
        return float((new.mtime - old.mtime).total_seconds())
