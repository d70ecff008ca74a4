"""Writing a file so that a crash leaves either the old one or the new one, whole, and never a part.

The order is: temporary file in the same folder, write, flush, fsync, `os.replace`, fsync of the folder.
A file that is replaced keeps its mode; through a link the file that it points to is replaced.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from qatplan.errors import DataError

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)\.[0-9a-f]{8}\.tmp", re.DOTALL)


def write_with(path: str | os.PathLike[str], fill: Callable[[IO[bytes]], object]) -> None:
    """Replace `path` by what `fill` writes into the open binary file it is given; missing folders are made.

    If anything fails, the temporary file is removed and `path` is as it was. Raises DataError where the folder cannot
    be made or written to, the disk is full, or `path` is a device or a pipe.
    """
    target = Path(path)
    try:
        target = Path(os.path.realpath(target))
        mode = _mode(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        # The suffix keeps half-written files out of every *.parquet and *.json listing.
        temporary = target.parent / f".{target.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    except (OSError, ValueError) as error:
        raise DataError(f"{target} cannot be written: {getattr(error, 'strerror', None) or error}.") from error
    try:
        with os.fdopen(descriptor, "wb") as stream:
            fill(stream)
            stream.flush()
            if mode is not None:
                os.chmod(temporary, mode)
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise DataError(f"{target} cannot be written: {error.strerror or error}.") from error
        raise
    sync_folder(target.parent)


def _mode(target: Path) -> int | None:
    """The permissions of the file that will be replaced, None if there is none."""
    try:
        found = target.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found):
        raise DataError(f"{target} is a folder; a file name is needed.")
    if not stat.S_ISREG(found):
        raise DataError(f"{target} is no regular file but a device or a pipe, and is not replaced.")
    return stat.S_IMODE(found)


def is_temporary(name: str) -> bool:
    """Whether a file is called as `write_with` calls what it has not finished."""
    return _TEMPORARY.fullmatch(name) is not None


def _remove_stale(path: str | os.PathLike[str]) -> None:
    """Delete what killed commands of this machine left of a write of `path`; whatever else is there stays."""
    target = Path(os.path.realpath(path))
    try:
        names = os.listdir(target.parent)
    except OSError:
        return  # nothing was written there
    for name in names:
        found = _TEMPORARY.fullmatch(name)
        if found is not None and found["name"] == target.name and not _runs(int(found["pid"])):
            with suppress(OSError):
                os.unlink(target.parent / name)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass  # somebody else's
    return True


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Replace the file `path` by `content`, atomically; what killed commands left of it is removed."""
    write_with(path, lambda stream: stream.write(content))
    _remove_stale(path)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Replace the file `path` by `value` as indented JSON in UTF-8, atomically.

    Floats are written with their full `repr`; NaN and infinities raise ValueError: JSON has none, the caller decides.
    """
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Make a rename inside `folder` durable, where the system can open folders (Windows cannot and needs no help)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
