"""THE table: one training run per row, and everything one may do with it.

Building, reading and checking it; its columns are described in `qatplan.runs.schema`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qatplan.errors import DataError, QatplanWarning, closest, first_line
from qatplan.runs.checks import Problem, validate
from qatplan.runs.complete import complete
from qatplan.runs.digest import content_digest
from qatplan.runs.files import conform, is_folder
from qatplan.runs.folder import read_file, read_folder
from qatplan.runs.repeats import repeats
from qatplan.runs.schema import ALIASES, BY_NAME, MEASURED, NAMES, SCALARS, SCHEMA
from qatplan.storage.base import Location, is_remote


class FileProblem(NamedTuple):
    """A row of a file that cannot be used: `row` counts from 1 within `file`."""

    file: Location
    row: int
    field: str
    sentence: str

    def __str__(self) -> str:
        return f"Row {self.row} of {self.file}: {self.sentence}"


class Inspected(NamedTuple):
    """Runs as they are given, whatever is wrong with them."""

    table: pa.Table
    problems: list[FileProblem]
    """What makes rows unusable."""
    notes: list[str]
    """What one should know although it makes nothing unusable, a sentence each."""


def table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """A validated table from dictionaries of field values; absent keys are null.

    Raises DataError for an unknown field, a value of the wrong type or a row that `validate` objects to; `evidence`
    then holds the list of problems.
    """
    given = list(rows)
    for number, row in enumerate(given, start=1):
        for name in row:
            if name not in BY_NAME:
                raise DataError(f"Row {number}: '{name}' is no field of a run{closest(name, NAMES)}.")
    arrays = [_array([row.get(field.name) for row in given], field) for field in SCHEMA]
    result = pa.Table.from_arrays(arrays, schema=SCHEMA)
    _refuse(validate(result))
    return result


def sound(source: Any) -> pa.Table:
    """A checked table of SCHEMA from a pandas or Arrow table with our column names; see `read` for what is refused."""
    raw = source if isinstance(source, pa.Table) else _arrow(source)
    result, _, notes = _once(complete(conform(raw, "the table")), lambda row: f"row {row}")
    _refuse(validate(result))
    _warn(notes)
    return result


def read(paths: Location | Iterable[Location]) -> pa.Table:
    """All runs of files and folders as one sound table, in the order given, by file name within a folder.

    A folder, local or of an object store (s3://bucket/folder), stands for the *.parquet in its `runs/`, or in itself
    where it has no such. CSV files carry our column names; what their columns determine is filled in (see `complete`).
    A run that is given more than once is kept once, with a QatplanWarning (see `qatplan.runs.repeats`). Raises
    DataError naming the file and row for damage, an unusable value, or a run_id of different runs.
    """
    found = inspect(paths)
    _refuse(found.problems)
    _warn(found.notes)
    return found.table


def inspect(paths: Location | Iterable[Location]) -> Inspected:
    """The table of `read` together with what makes rows of it unusable, instead of an error about the first of them.

    Raises DataError only for what is no table of runs at all: an absent or damaged file, an unknown column.
    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not given:
        raise DataError("No runs were named; give a folder, a Parquet file or a CSV file.")
    parts = [read_folder(path) if is_folder(path) else read_file(path) for path in given]
    files = [file for part in parts for file in part.files]
    ends = np.cumsum([rows for part in parts for rows in part.rows])

    def place(row: int) -> tuple[Location, int]:
        """The file of a row of all files, which count from 1, and its number there."""
        index = int(np.searchsorted(ends, row - 1, side="right"))
        file = files[index]
        return file if is_remote(file) else Path(file), row - int(ends[index - 1] if index else 0)

    def named(row: int) -> str:
        file, number = place(row)
        return f"row {number} of {file}"

    result, rows, notes = _once(pa.concat_tables([part.table for part in parts]), named)
    problems = []
    for problem in validate(result):
        sentence = problem.sentence
        if problem.other is not None:
            sentence = f"{sentence.rstrip('.')} ({named(rows[problem.other - 1])})."
        problems.append(FileProblem(*place(rows[problem.row - 1]), problem.field, sentence))
    return Inspected(result, problems, notes)


def _once(table: pa.Table, named: Callable[[int], str]) -> tuple[pa.Table, list[int], list[str]]:
    """The table with each run once, the number of each row before, from 1, and a note on what was left out."""
    copies = [repeat for repeat in repeats(table) if not repeat.difference]
    rows = np.delete(np.arange(table.num_rows), [copy.row for copy in copies])
    if not copies:
        return table, (rows + 1).tolist(), []
    what = "row gives" if len(copies) == 1 else "rows give"
    note = (
        f"{len(copies)} {what} a run again, equal in all but sweep, time, machine and curves; each run is kept once, "
        f"as first given ({named(copies[0].row + 1)} repeats {named(copies[0].first + 1)})."
    )
    return table.take(pa.array(rows)), (rows + 1).tolist(), [note]


def _refuse(problems: list[Problem] | list[FileProblem]) -> None:
    """DataError about the first problem, if there is one, with all of them as its evidence."""
    if problems:
        rest = f" ({len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{rest}", evidence=problems)


def _warn(notes: list[str]) -> None:
    for note in notes:
        warnings.warn(note, QatplanWarning, stacklevel=3)


def _arrow(source: Any) -> pa.Table:
    try:
        if hasattr(source, "iloc"):
            return pa.Table.from_pandas(source, preserve_index=False)
        return pa.table(source)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"the table cannot be read: {first_line(error)}.") from error


def digest(table: pa.Table) -> str:
    """SHA-256 (hex) of all that was measured about the model and nothing about the clock; row order does not matter."""
    order = ["run_id"]
    if pc.count_distinct(table.column("run_id")).as_py() < table.num_rows:
        # Repeated runs tie on run_id, so every other plain column has to settle the order.
        order = [name for name in SCALARS if name not in MEASURED]
    return content_digest(table.sort_by([(name, "ascending") for name in order]), leave_out=MEASURED)


def columns(table: pa.Table, names: Sequence[str]) -> dict[str, npt.NDArray[np.float64]]:
    """Numeric columns as float64 arrays of shape (rows,), NaN where null. Raises DataError for any other column."""
    result = {}
    for name in names:
        name = ALIASES.get(name, name)
        field = BY_NAME.get(name)
        if field is None or not (pa.types.is_integer(field.type) or pa.types.is_floating(field.type)):
            raise DataError(f"'{name}' is no numeric field of a run{closest(name, NAMES)}.")
        values = table.column(name).cast(pa.float64(), safe=False)
        result[name] = pc.fill_null(values, float("nan")).to_numpy().astype(np.float64)
    return result


def _array(values: list[Any], field: pa.Field) -> pa.Array:
    try:
        return pa.array(values, field.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        for row, value in enumerate(values, start=1):
            try:
                pa.array([value], field.type)
            except (pa.ArrowException, TypeError, ValueError, OverflowError):
                raise DataError(f"Row {row}: {field.name} is {value!r}, not a value of type {field.type}.") from error
        raise
