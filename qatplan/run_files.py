"""Runs tables as files: Parquet whose every bit is checked when it is read, and CSV that carries our column names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from qatplan import atomic
from qatplan.errors import DataError
from qatplan.run_checks import closest
from qatplan.run_complete import complete
from qatplan.run_content import content_digest
from qatplan.run_schema import ALIASES, BY_NAME, NAMES, SCHEMA

_FEW = 1000
"""Rows below which threads cost more than they save, and a column's dictionary more than it removes."""
_DIGEST_KEY = "qatplan.content_sha256"

PathLike = str | os.PathLike[str]


def write(table: pa.Table, path: PathLike) -> None:
    """Write a table of SCHEMA to `path` as Parquet, atomically.

    Each page carries a checksum, and the footer a digest of the whole content: page checksums alone leave the headers
    and the footer unguarded. The same table gives the same bytes on the same version of pyarrow.
    """
    if not table.schema.equals(SCHEMA):
        raise DataError(
            "A runs table must have exactly the columns of qatplan.runs.SCHEMA; build it with runs.table()."
        )
    stamp = {_DIGEST_KEY: content_digest(table)}

    def fill(stream: IO[bytes]) -> None:
        # A file often holds one run: dictionaries, statistics and Arrow's copy of the schema would triple its size.
        with pq.ParquetWriter(
            stream,
            SCHEMA,
            write_page_checksum=True,
            compression="zstd",
            use_dictionary=table.num_rows > _FEW,
            write_statistics=False,
            store_schema=False,
        ) as writer:
            writer.write_table(table.combine_chunks())
            writer.add_key_value_metadata(stamp)

    atomic.write_with(path, fill)


def locate(paths: PathLike | Iterable[PathLike]) -> list[Path]:
    """The files behind `paths`: a file is itself; a folder the *.parquet of its `runs/`, or of itself if none.

    Sorted by name within a folder. Raises DataError for a path that is absent or holds no runs.
    """
    files: list[Path] = []
    for given in [paths] if isinstance(paths, (str, os.PathLike)) else paths:
        path = Path(given)
        if path.is_dir():
            found = sorted((path / "runs").glob("*.parquet")) or sorted(path.glob("*.parquet"))
            if not found:
                raise DataError(f"{path} holds no runs: no *.parquet in it or in its runs folder.")
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise DataError(f"{path} does not exist.")
    if not files:
        raise DataError("No runs were named; give a folder, a Parquet file or a CSV file.")
    return files


def load(path: PathLike) -> pa.Table:
    """One file as a table of SCHEMA, its checksums verified but its values not yet judged (see runs.validate).

    Absent columns become nulls. Raises DataError naming the file for damage, an unknown column or a value of the
    wrong type.
    """
    file = Path(path)
    if file.suffix.lower() == ".csv":
        return _load_csv(file)
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
            stamp = (parquet.metadata.metadata or {}).get(_DIGEST_KEY.encode())
            table = conform(parquet.read(use_threads=parquet.metadata.num_rows > _FEW), str(file))
        sound = stamp is None or stamp == content_digest(table).encode()
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        # A flipped bit in the footer can surface as any of these, a UnicodeDecodeError in a name among them.
        raise DataError(f"{file} is damaged or not a Parquet file: {_first_line(error)}.") from error
    if not sound:
        raise DataError(f"{file} is damaged: its content does not match the digest written with it.")
    return table


def conform(raw: pa.Table, name: str) -> pa.Table:
    """`raw` with the columns of SCHEMA in order and of its types; `name` is how errors call the source."""
    labels = [ALIASES.get(column, column) for column in raw.column_names]
    for label in labels:
        if label not in BY_NAME:
            raise DataError(
                f"{name} has a column '{label}' that is no field of a run{closest(label, NAMES)}; rename or drop it, "
                "or bring the file in with `qatplan import`."
            )
        if labels.count(label) > 1:
            raise DataError(f"{name} has the column '{label}' more than once.")
    raw = raw.rename_columns(labels)
    arrays = []
    for field in SCHEMA:
        if field.name in labels:
            arrays.append(_cast(raw.column(field.name), field, name))
        else:
            arrays.append(pa.chunked_array([pa.nulls(raw.num_rows, field.type)]))
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _cast(column: pa.ChunkedArray, field: pa.Field, name: str) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        if pa.types.is_floating(column.type) and pa.types.is_integer(field.type):
            # 2e9 in a CSV is a float; a whole one is an integer all the same, and NaN is how pandas writes a null.
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        return column.cast(field.type)
    except (pa.ArrowException, NotImplementedError) as error:
        row, shown = _first_failure(column, field.type)
        where = f"row {row} of {name}: {field.name} is {shown!r}" if row else f"{name}: column {field.name}"
        raise DataError(f"{where}, which is not a value of type {field.type}.") from error


def _first_failure(column: pa.ChunkedArray, kind: pa.DataType) -> tuple[int, object]:
    for row, value in enumerate(column, start=1):
        try:
            value.cast(kind)
        except (pa.ArrowException, NotImplementedError):
            return row, value.as_py()
    return 0, None


def _load_csv(file: Path) -> pa.Table:
    try:
        raw = pyarrow.csv.read_csv(
            file, convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=True, null_values=["", "null", "NULL"])
        )
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read as CSV: {_first_line(error)}.") from error
    return complete(conform(raw, str(file)))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
