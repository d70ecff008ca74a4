"""Reading and merging the many small files of a sweep's runs.

One immutable file per run is what nothing can lose, and at ten thousand of them too slow to read. So a sweep keeps a
copy of all rows in one file, with the size and digest of each run's own file. Where the two disagree, the run's own
file counts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from qatplan.errors import DataError
from qatplan.runs.files import decode, encode, load
from qatplan.runs.schema import SCHEMA
from qatplan.storage.base import Entry, Location, Storage, is_remote, join
from qatplan.storage.open import open_storage

MERGED = "merged.parquet"
MERGE_FROM = 100
"""Files outside the merged copy from which it is worth writing anew: they take about half a second to read."""
READERS = 16
_FILES_KEY = "qatplan.files"


@dataclass(frozen=True, kw_only=True)
class Part:
    """Runs in the order of their files: `rows[i]` rows come from `files[i]`."""

    table: pa.Table
    files: list[str]
    rows: list[int]


class Mark(NamedTuple):
    """A file by its size and the SHA-256 of its bytes."""

    size: int
    sha256: str

    @staticmethod
    def of(content: bytes) -> Mark:
        """The mark of a content."""
        return Mark(len(content), hashlib.sha256(content).hexdigest())


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a sweep's files of runs hold, each looked at: whole rows in the order of their ids, and what is no row."""

    table: pa.Table
    marks: list[Mark]
    bad: dict[str, str]
    """Why the file of a run cannot be used, by run id."""
    unmerged: int
    """Rows that the merged copy does not have."""
    damage: str = ""
    """What is wrong with the merged copy; nothing if it is sound or absent."""


class _Copy(NamedTuple):
    """The merged copy: its rows, where each run is and what its file was, and why it cannot be used if so."""

    table: pa.Table = SCHEMA.empty_table()
    runs: Mapping[str, tuple[int, Mark]] = {}
    damage: str = ""

    def row(self, name: str, size: int) -> int | None:
        """Which row is that of a run whose own file has that size; None if it is not here."""
        row, mark = self.runs.get(name, (None, None))
        return row if mark is not None and mark.size == size else None


def read_file(location: Location) -> Part:
    """One file of runs."""
    table = load(location)
    return Part(table=table, files=[str(location)], rows=[table.num_rows])


def read_folder(location: Location) -> Part:
    """The *.parquet of a folder's `runs/`, or of itself if none, in the order of their names.

    What the merged copy has is taken from there. Raises DataError for a folder without runs, or naming the file that
    is damaged; a damaged merged copy is not needed and not used.
    """
    storage = open_storage(location)
    sizes = _tables(storage, "runs")
    folder, copy = ("runs/", _read_copy(storage)) if sizes else ("", _Copy())
    sizes = sizes or _tables(storage, "")
    if not sizes:
        raise DataError(f"{location} holds no runs: no *.parquet in it or in its runs folder.")
    names = sorted(sizes, key=lambda name: f"{name}.parquet")
    files = [join(storage.location, f"{folder}{name}.parquet") for name in names]
    merged = [copy.row(name, sizes[name]) for name in names]
    with ThreadPoolExecutor(READERS if is_remote(location) else 2) as readers:
        loose = readers.map(load, [file for file, row in zip(files, merged, strict=True) if row is None])
        tables, spans, end = [copy.table], list[range](), copy.table.num_rows
        for row in merged:
            if row is None:
                tables.append(next(loose))
                spans.append(range(end, end + tables[-1].num_rows))
                end = spans[-1].stop
            else:
                spans.append(range(row, row + 1))
    whole = pa.concat_tables(tables)
    if len(tables) <= len(files):  # else all are loose, and in order
        order = pa.array([row for span in spans for row in span], pa.int64())
        whole = whole.combine_chunks().take(order)
    return Part(table=whole, files=files, rows=[len(span) for span in spans])


def check(storage: Storage) -> Checked:
    """Look at every file of `runs/`, byte for byte: it must hold the one run that it is named after."""
    names = sorted(_tables(storage, "runs"))
    copy = _read_copy(storage)
    kept: list[int] = []
    marks: list[Mark] = []
    tables, bad = [copy.table], dict[str, str]()
    entries = [Entry(storage, f"runs/{name}.parquet") for name in names]
    with ThreadPoolExecutor(READERS) as readers:
        for name, entry, content in zip(names, entries, readers.map(Entry.read, entries), strict=True):
            mark = Mark.of(content)
            row, known = copy.runs.get(name, (0, None))
            if known != mark:
                try:
                    table = decode(content, str(entry))[0]
                    if table.column("run_id").to_pylist() != [name]:
                        raise DataError(f"{entry} is foreign: it does not hold the one run {name}.")
                except DataError as error:
                    bad[name] = str(error)
                    continue
                tables.append(table)
                row = copy.table.num_rows + len(tables) - 2
            kept.append(row)
            marks.append(mark)
    table = pa.concat_tables(tables).combine_chunks().take(pa.array(kept, pa.int64()))
    return Checked(table=table, marks=marks, bad=bad, unmerged=len(tables) - 1, damage=copy.damage)


def merge(storage: Storage, checked: Checked) -> None:
    """Publish the merged copy of rows that were checked."""
    files = {"sizes": [mark.size for mark in checked.marks], "sha256": [mark.sha256 for mark in checked.marks]}
    storage.write(MERGED, encode(checked.table, {_FILES_KEY: json.dumps(files)}))


def _tables(storage: Storage, folder: str) -> dict[str, int]:
    """Sizes of the *.parquet in a folder by their names without it; hidden files are those being written."""
    return {
        name.removesuffix(".parquet"): size
        for name, size in storage.names(folder).items()
        if name.endswith(".parquet") and not name.startswith(".") and size is not None
    }


def _read_copy(storage: Storage) -> _Copy:
    name = join(storage.location, MERGED)
    try:
        table, notes = decode(storage.read(MERGED), name)
        files = json.loads(notes[_FILES_KEY])
        marks = [Mark(*both) for both in zip(files["sizes"], files["sha256"], strict=True)]
        return _Copy(table, dict(zip(table.column("run_id").to_pylist(), enumerate(marks), strict=True)))
    except FileNotFoundError:
        return _Copy()
    except DataError as error:
        return _Copy(damage=str(error))
    except (KeyError, ValueError, TypeError):
        return _Copy(damage=f"{name} is no merged copy of a sweep's runs.")
