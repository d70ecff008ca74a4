"""Where a sweep is stored: a local folder or a folder of an object store, behind one small interface.

Files are named by keys relative to the folder, such as `runs/abc.parquet`. What is written appears whole or not at all,
so a reader never meets half a file and a crash at any point leaves the old content or the new.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Location = str | os.PathLike[str]
"""A local path, or the URL of a folder in an object store as a string."""


class Storage(Protocol):
    """A folder of whole files. Errors are DataError naming the file, but FileNotFoundError where `read` finds none."""

    location: str
    """As the user wrote it; `open_storage` turns it back into the same folder."""

    def check(self) -> None:
        """Raise UsageError if this cannot be a folder to work in; writes nothing."""

    def read(self, key: str) -> bytes:
        """The content of a file."""

    def write(self, key: str, content: bytes) -> None:
        """Publish a file: readers see the old content or the new, whole. Durable when this returns."""

    def exists(self, key: str) -> bool:
        """Whether there is a file of this name."""

    def names(self, folder: str = "") -> dict[str, int | None]:
        """The entries of a folder: size in bytes of each file, None for a folder; empty if there is none."""

    def remove(self, key: str) -> None:
        """Delete a file; nothing happens if there is none."""

    def rename(self, key: str, new: str) -> None:
        """Give a file another name, replacing what has it; nothing happens if there is no such file."""

    def remove_temporary(self, *folders: str) -> None:
        """Delete what killed writers left half-written here and in `folders`; only the holder of the folder may."""

    def free_bytes(self) -> int | None:
        """Space left, or None where there is no such limit."""

    def hold(self) -> AbstractContextManager[Callable[[], None]]:
        """Lock the folder for one driver; UsageError if another has it.

        Yields a check that raises SweepIncomplete once another has the folder.
        """


@dataclass(frozen=True)
class Entry:
    """One file of a storage, there or not."""

    storage: Storage
    key: str

    def __str__(self) -> str:
        return join(self.storage.location, self.key)

    @property
    def name(self) -> str:
        """The file's name without its folders."""
        return self.key.rsplit("/", 1)[-1]

    def read(self) -> bytes:
        """The content; FileNotFoundError if there is no such file."""
        return self.storage.read(self.key)

    def write(self, content: bytes) -> None:
        """Publish the content, whole or not at all."""
        self.storage.write(self.key, content)

    def exists(self) -> bool:
        """Whether the file is there."""
        return self.storage.exists(self.key)

    def remove(self) -> None:
        """Delete the file if it is there."""
        self.storage.remove(self.key)

    def set_aside(self) -> Entry:
        """Rename an unusable file so that it counts as missing and can still be looked at; returns what it is now."""
        aside = Entry(self.storage, self.key + ".damaged")
        self.storage.rename(self.key, aside.key)
        return aside


def is_remote(location: Location) -> bool:
    """Whether a location is a URL rather than a local path."""
    return isinstance(location, str) and "://" in location


def join(location: str, key: str) -> str:
    """The name of a file in a folder as people read it; options after `?` in a URL stay at its end."""
    if not is_remote(location):
        return os.path.join(location, key)
    address, mark, options = location.partition("?")
    return f"{address.rstrip('/')}/{key}{mark}{options}"


def absolute(location: Location) -> str:
    """The same place as seen from any working folder."""
    return str(location) if is_remote(location) else os.path.abspath(location)


def seen_from(folders: Iterable[Path], names: Iterable[str]) -> list[Location]:
    """Local places recorded by name, from the first folder where all exist; none if there is no such folder.

    Nor are there any where one is a URL: a record is no request to contact it.
    """
    recorded = list(names)
    for folder in () if any(map(is_remote, recorded)) else folders:
        found = [folder / name for name in recorded]
        if all(map(os.path.exists, found)):
            return list[Location](found)
    return []
