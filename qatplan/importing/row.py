"""One row on its way in, and what is said against it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

_RESULTS = frozenset({"run_id", "loss", "loss_se", "bits_per_byte", "seconds", "tokens_per_second", "finished_at"})

Kind = Literal["unusable", "checkpoint", "unfinished", "repeated"]
"""What an objection is: that a row cannot be used or looks wrong, or that it is no final result of its own. Every
table of a tracker has such rows, and a fit without them lacks nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One usable row on its way in."""

    number: int
    cells: Mapping[str, Any]
    """What the file says, by its own column names."""
    values: Mapping[str, Any]
    """Our fields, as far as they were mapped."""
    given: Mapping[str, Any]
    """The cell or number each mapped field was made from, before conversion."""


@dataclass(frozen=True)
class Objection:
    """Why one row looks wrong."""

    row: int
    field: str
    reason: str
    kind: Kind = "unusable"


def fields_of(rows: Sequence[Row]) -> list[str]:
    """Every field that some row has a place for."""
    return sorted(set().union(*{tuple(row.values) for row in rows}))


def settings(rows: Sequence[Row], without: Collection[str] = ()) -> list[tuple[Any, ...]]:
    """What was mapped about each run except its name and results: equal for repeats of one run."""
    fields = [field for field in fields_of(rows) if field not in _RESULTS and field not in without]
    columns = [[row.values.get(field) for row in rows] for field in fields]
    return list(zip(*columns, strict=True)) if columns else [()] * len(rows)
