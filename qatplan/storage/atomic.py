"""Writing a file so that a crash leaves either the old one or the new one, whole, and never a part.

The order is: temporary file in the same folder, write, flush, fsync, `os.replace`, fsync of the folder.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from qatplan.errors import DataError


def write_with(path: str | os.PathLike[str], fill: Callable[[IO[bytes]], object]) -> None:
    """Replace `path` by what `fill` writes into the open binary file it is given; missing folders are made.

    If anything fails, the temporary file is removed and `path` is as it was. Raises DataError where the folder cannot
    be made or written to, or the disk is full.
    """
    target = Path(path)
    if target.is_dir():
        raise DataError(f"{target} is a folder; a file name is needed.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # The suffix keeps half-written files out of every *.parquet and *.json listing.
        temporary = target.parent / f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        raise DataError(f"{target} cannot be written: {error.strerror or error}.") from error
    try:
        with os.fdopen(descriptor, "wb") as stream:
            fill(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise DataError(f"{target} cannot be written: {error.strerror or error}.") from error
        raise
    sync_folder(target.parent)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Replace the file `path` by `content`, atomically."""
    write_with(path, lambda stream: stream.write(content))


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
