"""Filling in what the given columns already determine, and nothing else."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pyarrow.compute as pc

from qatplan.runs.schema import DIVERGED, FINISHED, NAMES, SCHEMA


def complete(table: pa.Table) -> pa.Table:
    """A table of SCHEMA with nulls replaced where other columns leave one answer; known values are never changed.

    - the third of d_fp, d_qat, d_total from the other two, and of n_embedding, n_nonembedding, n_total likewise;
    - without bits (full precision) d_qat = 0, so that d_fp = d_total;
    - status `finished` where there is a loss, `diverged` where there is none;
    - run_id: a digest of the row.
    What stays unknown stays null, for `validate` to report.
    """
    columns = {name: table.column(name) for name in NAMES}
    no_bits = pc.is_null(columns["bits"])
    zero, unknown = pa.scalar(0, pa.int64()), pa.scalar(None, pa.int64())
    other_known = pc.or_(pc.is_valid(columns["d_total"]), pc.is_valid(columns["d_fp"]))
    columns["d_qat"] = pc.coalesce(columns["d_qat"], pc.if_else(pc.and_(no_bits, other_known), zero, unknown))
    for total, part, rest in (("d_total", "d_fp", "d_qat"), ("n_total", "n_embedding", "n_nonembedding")):
        given = {name: columns[name] for name in (total, part, rest)}
        columns[total] = pc.coalesce(given[total], pc.add(given[part], given[rest]))
        columns[part] = pc.coalesce(given[part], pc.subtract(given[total], given[rest]))
        columns[rest] = pc.coalesce(given[rest], pc.subtract(given[total], given[part]))
    status = pc.if_else(pc.is_valid(columns["loss"]), FINISHED, DIVERGED)
    columns["status"] = pc.coalesce(columns["status"], status)
    filled = pa.Table.from_arrays([columns[name] for name in NAMES], schema=SCHEMA)
    if filled.column("run_id").null_count == 0:
        return filled
    return filled.set_column(0, SCHEMA.field("run_id"), pa.chunked_array([pa.array(_names(filled), pa.string())]))


def _names(table: pa.Table) -> list[str]:
    """The run_id of every row where it has one, else 16 hex digits of its known values.

    So the same row gets the same name in every import, whatever columns the schema gains later.
    """
    used = [name for name in NAMES[1:] if table.column(name).null_count < table.num_rows]
    names = []
    for given, *values in zip(*(table.column(name).to_pylist() for name in ("run_id", *used)), strict=True):
        known = [(name, value) for name, value in zip(used, values, strict=True) if value is not None]
        names.append(given or hashlib.sha256(repr(known).encode()).hexdigest()[:16])
    return names
