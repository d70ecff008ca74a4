"""Files that come in, from anybody: regular ones alone, of a size that is stated, as bytes or as JSON."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

from qatplan.errors import DataError
from qatplan.units import format_bytes

LARGEST = 2**30
"""Bytes of a file that are read into memory, and that a compressed one may unpack to."""
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


def read_bytes(path: str | os.PathLike[str], largest: int = LARGEST) -> bytes:
    """The content of a regular file of at most `largest` bytes.

    Raises DataError for a device, a pipe or a larger file, and OSError as `open` does.
    """
    try:
        found = os.stat(path)
    except ValueError as error:
        raise DataError(f"{str(path)!r} cannot be the name of a file.") from error
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise DataError(f"{path} is no regular file but a device or a pipe, and is not read.")
    if found.st_size > largest:
        raise DataError(f"{path} has more than {format_bytes(largest)}, the most that is read.")
    with open(path, "rb") as stream:
        return stream.read()


def read_json(path: Path, what: str) -> dict[str, Any]:
    """The object in a JSON file; DataError, which calls the file `what`, for one that cannot be read or holds none."""
    try:
        value = parse_json(read_bytes(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read as {what}: {error.strerror or error}.") from error
    except ValueError as error:
        raise DataError(f"{path} cannot be read as {what}: {error}.") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} is not {what}: it holds no JSON object.")
    return value


def parse_json(content: bytes) -> Any:
    """The value of a JSON document in UTF-8. Raises ValueError, which says what is wrong, for anything else."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text at byte {error.start}") from error
    try:
        value = json.loads(text)
        if _HALF_PAIR.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON file (line {error.lineno}, column {error.colno}: {error.msg})") from error
    except RecursionError as error:
        raise ValueError("it is no JSON file of ours: it is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise ValueError("it is no JSON file: it has half of a surrogate pair in a text") from error
    except ValueError as error:
        raise ValueError("it is no JSON file of ours: a number in it has more than 4300 digits") from error
    return value
