"""Options and runs as pandas tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """A row a mapping; an interval [low, high] under `name_interval` becomes `name_low` and `name_high`."""
    import pandas as pd

    return pd.DataFrame([_flat(row) for row in rows])


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        stem, interval, _ = name.partition("_interval")
        if interval:
            flat[f"{stem}_low"], flat[f"{stem}_high"] = (None, None) if value is None else value
        else:
            flat[name] = value
    return flat
