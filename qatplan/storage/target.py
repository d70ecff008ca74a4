"""Where a command may write a file: over nothing that it reads, and over what exists only where that is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from qatplan.errors import UsageError
from qatplan.storage.base import Location, is_remote

_READ = (*(".parquet", ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".xlsx", ".gz", ".zst"), *(".pt", ".bin"))
"""How the names of tables end, and those of what a sweep keeps."""


def check_target(
    out: str | os.PathLike[str], *, reads: Iterable[Location | None] = (), force: bool = False, option: str = "--out"
) -> Path:
    """`out` if a command that reads these files and folders may write there.

    Raises UsageError for a folder; for a file that is read, whatever path or link leads to it, also with `force`; for
    any other file that exists, unless `force`.
    """
    # As it will be written: `gone/../fit.json` is a file although there is no folder `gone`.
    target = Path(os.path.realpath(out))
    if target.is_dir():
        raise UsageError(f"{option} {str(out)!r} is a folder; name a file in it.")
    if not target.exists():
        return Path(out)
    for place in reads:
        if place is not None and not is_remote(place) and _is_read(Path(place), target):
            raise UsageError(f"{option} {out} is among what the command reads ({place}); name another file.")
    if not force:
        raise UsageError(f"{out} exists; --force overwrites it.")
    return Path(out)


def _is_read(place: Path, target: Path) -> bool:
    """Whether a file that exists is `place` itself, or one of those that a folder `place` is read for.

    `target` is a path without links.
    """
    if not place.exists():
        return False
    if not place.is_dir():
        return place.samefile(target)
    beside = target.suffix.lower() not in _READ and not target.name.startswith("lock")
    return not beside and Path(os.path.realpath(place)) in target.parents
