"""Runs that are given more than once: by two sweeps that both needed them, or by naming a folder twice.

Two rows of one run_id are the same run if they are equal in everything but what `qatplan.runs.schema` lists as
circumstances: the sweep, the time, the machine, and what was logged along the run.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qatplan.runs.schema import CIRCUMSTANCES, NAMES


class Repeat(NamedTuple):
    """A row whose run_id an earlier row has; rows count from 0."""

    row: int
    first: int
    """The first row with that run_id."""
    difference: str
    """The first field in which they differ, with both values, or nothing where they are the same run."""


def repeats(table: pa.Table) -> list[Repeat]:
    """Every row of a table of SCHEMA that gives a run_id again, in order. A null run_id repeats nothing."""
    names = table.column("run_id")
    if pc.count_distinct(names).as_py() + names.null_count == len(names):
        return []
    first: dict[str, int] = {}
    pairs = [
        (row, first[name])
        for row, name in enumerate(names.to_pylist())
        if name is not None and first.setdefault(name, row) != row
    ]
    rows, others = (table.take(pa.array(side, pa.int64())) for side in np.transpose(pairs))
    differences = [""] * len(pairs)
    for field in (name for name in reversed(NAMES) if name not in CIRCUMSTANCES):
        here, there = rows.column(field), others.column(field)
        if not here.equals(there):
            for index, (a, b) in enumerate(zip(here.to_pylist(), there.to_pylist(), strict=True)):
                # As text NaN equals NaN, and nothing is lost: a float has its full repr.
                if repr(a) != repr(b):
                    differences[index] = f"{field} is {_shown(b)} there and {_shown(a)} here"
    return [Repeat(row, other, how) for (row, other), how in zip(pairs, differences, strict=True)]


def _shown(value: object) -> str:
    return "null" if value is None else repr(value)
