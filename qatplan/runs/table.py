"""THE table: one training run per row, and everything one may do with it.

Building, reading and checking it; its columns are described in `qatplan.runs.schema`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qatplan.errors import DataError, closest
from qatplan.runs.checks import validate
from qatplan.runs.complete import complete
from qatplan.runs.digest import content_digest
from qatplan.runs.files import conform, is_folder
from qatplan.runs.folder import read_file, read_folder
from qatplan.runs.schema import (
    ALIASES,
    BY_NAME,
    FIELDS,
    MEASURED,
    NAMES,
    SCHEMA,
)
from qatplan.storage.base import Location, is_remote


class FileProblem(NamedTuple):
    """A row of a file that cannot be used: `row` counts from 1 within `file`."""

    file: Location
    row: int
    field: str
    sentence: str

    def __str__(self) -> str:
        return f"Row {self.row} of {self.file}: {self.sentence}"


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
    problems = validate(result)
    if problems:
        rest = f" ({len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise DataError(f"Row {problems[0].row}: {problems[0].sentence}{rest}", evidence=problems)
    return result


def sound(source: Any) -> pa.Table:
    """A checked table of SCHEMA from a pandas or Arrow table with our column names; see `read` for what is refused."""
    raw = source if isinstance(source, pa.Table) else _arrow(source)
    result = complete(conform(raw, "the table"))
    problems = validate(result)
    if problems:
        rest = f" ({len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise DataError(f"Row {problems[0].row}: {problems[0].sentence}{rest}", evidence=problems)
    return result


def _arrow(source: Any) -> pa.Table:
    try:
        if hasattr(source, "iloc"):
            return pa.Table.from_pandas(source, preserve_index=False)
        return pa.table(source)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"the table cannot be read: {str(error).splitlines()[0]}.") from error


def read(paths: Location | Iterable[Location]) -> pa.Table:
    """All runs of files and folders as one sound table, in the order given, by file name within a folder.

    A folder, local or of an object store (s3://bucket/folder), stands for the *.parquet in its `runs/`, or in itself
    where it has no such. CSV files carry our column names; what their columns determine is filled in (see `complete`).
    Raises DataError naming the file and row for damage, an unusable value, or a run_id that appears twice.
    """
    result, problems = inspect(paths)
    if problems:
        rest = f" ({len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{rest}", evidence=problems)
    return result


def inspect(paths: Location | Iterable[Location]) -> tuple[pa.Table, list[FileProblem]]:
    """The table of `read` together with what makes rows of it unusable, instead of an error about the first of them.

    Raises DataError only for what is no table of runs at all: an absent or damaged file, an unknown column.
    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not given:
        raise DataError("No runs were named; give a folder, a Parquet file or a CSV file.")
    parts = [read_folder(path) if is_folder(path) else read_file(path) for path in given]
    result = pa.concat_tables([part.table for part in parts])
    files = [file for part in parts for file in part.files]
    ends = np.cumsum([rows for part in parts for rows in part.rows])
    starts = np.concatenate([[0], ends[:-1]])

    def place(row: int) -> tuple[Location, int]:
        index = int(np.searchsorted(ends, row - 1, side="right"))
        file = files[index]
        return file if is_remote(file) else Path(file), row - int(starts[index])

    problems = []
    for problem in validate(result):
        file, row = place(problem.row)
        sentence = problem.sentence
        if problem.other is not None:
            # validate counts rows over all files; a reader looks for the other one in its own file.
            twin, number = place(problem.other)
            sentence = f"{sentence.rstrip('.')} (row {number} of {twin})."
        problems.append(FileProblem(file, row, problem.field, sentence))
    return result, problems


def digest(table: pa.Table) -> str:
    """SHA-256 (hex) of all that was measured about the model and nothing about the clock; row order does not matter."""
    order = [("run_id", "ascending")]
    if pc.count_distinct(table.column("run_id")).as_py() < table.num_rows:
        # Repeated runs tie on run_id, so every other plain column has to settle the order.
        plain = [f.name for f in FIELDS if not (f.measured or pa.types.is_list(f.type))]
        order = [(name, "ascending") for name in plain]
    return content_digest(table.sort_by(order), leave_out=MEASURED)


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
