"""SHA-256 of the content of a runs table, independent of chunks, compression, column order and pyarrow's version."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def content_digest(table: pa.Table, *, leave_out: Iterable[str] = ()) -> str:
    """SHA-256 (hex) of the values of a table, in row order, columns taken by name.

    Columns that are null throughout are left out, so that a field added to the schema later changes no digest.
    """
    total = hashlib.sha256(str(table.num_rows).encode())
    for name in sorted(set(table.column_names) - set(leave_out)):
        column = table.column(name)
        if column.null_count < len(column):
            total.update(f"|{name}|".encode())
            total.update(_column_digest(column))
    return total.hexdigest()


def _column_digest(column: pa.ChunkedArray) -> bytes:
    """Digest of one column: which rows are null, then the values of the others in a fixed byte layout."""
    digest = hashlib.sha256(np.packbits(pc.is_null(column).to_numpy()).tobytes())
    values = column.drop_null()
    kind = column.type
    digest.update(f"{'text' if pa.types.is_string(kind) else kind}|{len(values)}|".encode())
    if pa.types.is_list(kind):
        digest.update(pc.list_value_length(values).to_numpy().astype("<i8").tobytes())
        flat = pc.list_flatten(values)
        for index in range(kind.value_type.num_fields):
            part = pc.struct_field(flat, index)
            digest.update(_column_digest(part if isinstance(part, pa.ChunkedArray) else pa.chunked_array([part])))
    elif pa.types.is_string(kind):
        digest.update(pc.binary_length(values).to_numpy().astype("<i8").tobytes())
        digest.update("".join(values.to_pylist()).encode())
    else:
        array = values.to_numpy()
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.digest()
