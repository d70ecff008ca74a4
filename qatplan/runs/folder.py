"""Reading and merging the many small files of a sweep's runs.

One immutable file per run is what nothing can lose, and at ten thousand of them too slow to read. So a sweep keeps a
copy of all rows in one file, with the size and digest of each run's own file. Where the two disagree, the run's own
file counts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

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


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a sweep's files of runs hold, each looked at: whole rows in the order of their ids, and what is no row."""

    table: pa.Table
    marks: list[Mark]
    bad: dict[str, str]
    """Why the file of a run cannot be used, by run id."""
    unmerged: int
    """Rows that the merged copy does not have."""


@dataclass(frozen=True)
class Mark:
    """A file by its size and the SHA-256 of its bytes."""

    size: int
    sha256: str

    @staticmethod
    def of(content: bytes) -> Mark:
        """The mark of a content."""
        return Mark(len(content), hashlib.sha256(content).hexdigest())


@dataclass(frozen=True)
class _Copy:
    """The merged copy: its rows, and where each run is and what its file was."""

    table: pa.Table
    row: dict[str, int] = field(default_factory=dict)
    marks: list[Mark] = field(default_factory=list)

    def has(self, name: str, size: int) -> bool:
        """Whether the row of a run whose own file has that size is here."""
        return name in self.row and self.marks[self.row[name]].size == size


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
    folder, copy = ("runs/", _read_copy(storage)) if sizes else ("", _Copy(SCHEMA.empty_table()))
    sizes = sizes or _tables(storage, "")
    if not sizes:
        raise DataError(f"{location} holds no runs: no *.parquet in it or in its runs folder.")
    names = sorted(sizes, key=lambda name: f"{name}.parquet")
    files = [join(storage.location, f"{folder}{name}.parquet") for name in names]
    loose = [index for index, name in enumerate(names) if not copy.has(name, sizes[name])]
    with ThreadPoolExecutor(READERS if is_remote(location) else 2) as readers:
        tables = list(readers.map(lambda index: load(files[index]), loose))
    if len(loose) == len(files):
        return Part(table=pa.concat_tables(tables), files=files, rows=[table.num_rows for table in tables])
    spans = [range(copy.row.get(name, 0), copy.row.get(name, 0) + 1) for name in names]
    end = copy.table.num_rows
    for index, table in zip(loose, tables, strict=True):
        spans[index] = range(end, end + table.num_rows)
        end += table.num_rows
    whole = pa.concat_tables([copy.table, *tables]).combine_chunks()
    order = pa.array([row for span in spans for row in span], pa.int64())
    return Part(table=whole.take(order), files=files, rows=[len(span) for span in spans])


def check(storage: Storage) -> Checked:
    """Look at every file of `runs/`, byte for byte: it must hold the one run that it is named after."""
    names = sorted(_tables(storage, "runs"))
    copy = _read_copy(storage)
    kept: list[int] = []
    marks: list[Mark] = []
    new: list[pa.Table] = []
    bad: dict[str, str] = {}
    for name, content in zip(names, _contents(storage, names), strict=True):
        mark = Mark.of(content)
        if copy.has(name, mark.size) and copy.marks[copy.row[name]] == mark:
            kept.append(copy.row[name])
        else:
            try:
                where = _entry(storage, name)
                table = decode(content, str(where))[0]
                if table.column("run_id").to_pylist() != [name]:
                    raise DataError(f"{where} is foreign: it does not hold the one run {name}.")
                new.append(table)
            except DataError as error:
                bad[name] = str(error)
                continue
            kept.append(copy.table.num_rows + len(new) - 1)
        marks.append(mark)
    table = pa.concat_tables([copy.table, *new]).combine_chunks().take(pa.array(kept, pa.int64()))
    return Checked(table=table, marks=marks, bad=bad, unmerged=len(new))


def merge(storage: Storage, checked: Checked) -> None:
    """Publish the merged copy of rows that were checked."""
    files = {"sizes": [mark.size for mark in checked.marks], "sha256": [mark.sha256 for mark in checked.marks]}
    storage.write(MERGED, encode(checked.table, {_FILES_KEY: json.dumps(files)}))


def copy_problem(storage: Storage) -> str | None:
    """What is wrong with the merged copy, or None if it is sound or absent."""
    try:
        _parse_copy(storage)
    except FileNotFoundError:
        return None
    except DataError as error:
        return str(error)
    return None


def _tables(storage: Storage, folder: str) -> dict[str, int]:
    """Sizes of the *.parquet in a folder by their names without it; hidden files are those being written."""
    return {
        name.removesuffix(".parquet"): size
        for name, size in storage.names(folder).items()
        if name.endswith(".parquet") and not name.startswith(".") and size is not None
    }


def _read_copy(storage: Storage) -> _Copy:
    try:
        return _parse_copy(storage)
    except (FileNotFoundError, DataError):
        return _Copy(SCHEMA.empty_table())


def _parse_copy(storage: Storage) -> _Copy:
    name = join(storage.location, MERGED)
    table, notes = decode(storage.read(MERGED), name)
    try:
        files = json.loads(notes[_FILES_KEY])
        ids = table.column("run_id").to_pylist()
        listed = zip(ids, files["sizes"], files["sha256"], strict=True)
        marks = [Mark(size, sha256) for _, size, sha256 in listed]
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{name} is no merged copy of a sweep's runs.") from error
    return _Copy(table, {run: index for index, run in enumerate(ids)}, marks)


def _contents(storage: Storage, names: Iterable[str]) -> Iterator[bytes]:
    with ThreadPoolExecutor(READERS) as readers:
        yield from readers.map(lambda name: _entry(storage, name).read(), names)


def _entry(storage: Storage, name: str) -> Entry:
    return Entry(storage, f"runs/{name}.parquet")
