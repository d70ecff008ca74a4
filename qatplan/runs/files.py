"""Runs tables as files: Parquet whose every bit is checked when it is read, and CSV that carries our column names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from qatplan.errors import DataError, closest, first_line
from qatplan.runs.complete import complete
from qatplan.runs.digest import content_digest
from qatplan.runs.schema import ALIASES, BY_NAME, NAMES, SCHEMA
from qatplan.storage import atomic
from qatplan.storage.base import Location, is_remote
from qatplan.storage.incoming import LARGEST
from qatplan.storage.open import open_storage
from qatplan.units import format_bytes

_FEW = 1000
"""Rows below which threads cost more than they save, and a column's dictionary more than it removes."""
_FOREIGN = ("json", "jsonl", "ndjson", "tsv", "xlsx")
"""Endings of tables that are only imported."""
_BATCH = 4096
"""Rows read at once: a small file may hold as many equal ones as it likes."""
_DIGEST_KEY = "qatplan.content_sha256"


def write(table: pa.Table, path: str | os.PathLike[str]) -> None:
    """Write a table of SCHEMA to the local file `path` as Parquet, atomically; see `encode`."""
    atomic.write_bytes(path, encode(table))


def encode(table: pa.Table, notes: Mapping[str, str] | None = None) -> bytes:
    """A table of SCHEMA as a Parquet file, with `notes` in its footer.

    Each page carries a checksum, and the footer a digest of the whole content: page checksums alone leave the headers
    and the footer unguarded. The same table gives the same bytes on the same version of pyarrow.
    """
    if not table.schema.equals(SCHEMA):
        raise DataError("A runs table must have the columns of qatplan.runs.SCHEMA; build it with runs.table().")
    stream = pa.BufferOutputStream()
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
        writer.add_key_value_metadata({_DIGEST_KEY: content_digest(table), **(notes or {})})
    content: bytes = stream.getvalue().to_pybytes()
    return content


def is_folder(location: Location) -> bool:
    """Whether a location is a folder of runs; a URL is one unless it ends like a table."""
    if is_remote(location):
        return not str(location).partition("?")[0].lower().endswith((".parquet", ".csv"))
    return Path(location).is_dir()


def load(location: Location) -> pa.Table:
    """One file as a table of SCHEMA, its checksums verified but its values not yet judged (see runs.validate).

    Absent columns become nulls. Raises DataError naming the file for damage, an unknown column or a value of the
    wrong type.
    """
    kinds = str(location).partition("?")[0].lower().split(".")[-2:]
    if kinds[-1] in _FOREIGN or (kinds[-1] in ("gz", "zst") and kinds[0] in (*_FOREIGN, "csv")):
        raise DataError(f"{location} is no runs table; `qatplan import {location}` makes one of it.")
    folder: Location
    if is_remote(location):
        address, mark, options = str(location).partition("?")
        folder, _, name = address.rpartition("/")
        folder += mark + options
    else:
        folder, name = Path(location).parent, Path(location).name
    try:
        content = open_storage(folder).read(name)
    except FileNotFoundError:
        raise DataError(f"{location} does not exist.") from None
    if name.lower().endswith(".csv"):
        return _decode_csv(content, str(location))
    return decode(content, str(location))[0]


def decode(content: bytes, name: str) -> tuple[pa.Table, dict[str, str]]:
    """The table of SCHEMA in a Parquet file and the notes in its footer; `name` is how errors call the file."""
    try:
        with pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True) as parquet:
            notes = {key.decode(): value.decode() for key, value in (parquet.metadata.metadata or {}).items()}
            table = conform(read_batches(parquet), name)
        sound = _DIGEST_KEY not in notes or notes[_DIGEST_KEY] == content_digest(table)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        # A flipped bit in the footer can surface as any of these, a UnicodeDecodeError in a name among them.
        raise DataError(f"{name} is damaged or not a Parquet file: {first_line(error)}.") from error
    if not sound:
        raise DataError(f"{name} is damaged: its content does not match the digest written with it.")
    return table, notes


def read_batches(parquet: pq.ParquetFile) -> pa.Table:
    """All rows of an open file, read batch by batch. Raises ValueError where they need more than LARGEST bytes."""
    about = parquet.metadata
    most = f"it unpacks to more than {format_bytes(LARGEST)}, the most that is read"
    if sum(about.row_group(group).total_byte_size for group in range(about.num_row_groups)) > LARGEST:
        raise ValueError(most)
    batches, size = [], 0
    for batch in parquet.iter_batches(_BATCH, use_threads=about.num_rows > _FEW):
        batches.append(batch)
        size += batch.nbytes
        if size > LARGEST:
            raise ValueError(most)
    return pa.Table.from_batches(batches, schema=parquet.schema_arrow)


def conform(raw: pa.Table, name: str) -> pa.Table:
    """`raw` with the columns of SCHEMA in order and of its types; `name` is how errors call the source."""
    try:
        labels = [ALIASES.get(column, column) for column in raw.column_names]
    except UnicodeDecodeError as error:
        raise DataError(f"{name} has a column whose name is not UTF-8 text; save the file as UTF-8.") from error
    for label in labels:
        if label not in BY_NAME:
            raise DataError(
                f"{name} has a column '{label}' that is no field of a run{closest(label, NAMES)}; rename or drop it, "
                "or bring the file in with `qatplan import`."
            )
        if labels.count(label) > 1:
            raise DataError(f"{name} has the column '{label}' more than once.")
    raw = raw.rename_columns(labels)
    arrays = [
        _cast(raw.column(f.name), f, name) if f.name in labels else pa.chunked_array([pa.nulls(len(raw), f.type)])
        for f in SCHEMA
    ]
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
        where = f"column {field.name} of {name} is {column.type}"
        for row, value in enumerate(column, start=1):
            try:
                value.cast(field.type)
            except (pa.ArrowException, NotImplementedError):
                where = f"row {row} of {name}: {field.name} is {value.as_py()!r}"
                break
        raise DataError(f"{where}, which is not {_wanted(field.type)}.") from error


def _wanted(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return "a whole number"
    if pa.types.is_floating(kind):
        return "a number"
    return "text" if pa.types.is_string(kind) else f"a value of type {kind}"


def _decode_csv(content: bytes, name: str) -> pa.Table:
    try:
        raw = pyarrow.csv.read_csv(
            pa.BufferReader(content),
            convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=True, null_values=["", "null", "NULL"]),
        )
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{name} cannot be read as CSV: {first_line(error)}.") from error
    return complete(conform(raw, name))
