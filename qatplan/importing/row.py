"""One row on its way in, and what is said against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

_RESULTS = frozenset({"run_id", "loss", "loss_se", "bits_per_byte", "seconds", "tokens_per_second", "finished_at"})


@dataclass(frozen=True, kw_only=True)
class Row:
    """One usable row on its way in."""

    number: int
    cells: Mapping[str, Any]
    """What the file says, by its own column names."""
    values: Mapping[str, Any]
    """Our fields, as far as they were mapped."""
    given: Mapping[str, Any]
    """The cell or number each mapped field was made from, before conversion."""

    @cached_property
    def configuration(self) -> tuple[tuple[str, Any], ...]:
        """What was mapped about a run except its name and results: equal for repeats of one run."""
        return tuple(sorted((k, v) for k, v in self.values.items() if v is not None and k not in _RESULTS))


@dataclass(frozen=True)
class Objection:
    """Why one row looks wrong."""

    row: int
    field: str
    reason: str
