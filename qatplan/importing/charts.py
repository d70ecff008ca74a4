"""Charts that trackers export as CSV: one column a run in W&B, one curve a file in TensorBoard."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_SERIES = re.compile(r"(?P<run>.+) - (?P<metric>[^-]+?)")
_AXES = frozenset({"Step", "_step", "global_step", "trainer/global_step", "Relative Time (Process)", "Wall Time"})


def chart_rows(rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The rows, or where they are a chart of W&B the last value of each run: its name, the step and the metric.

    Raises ValueError for one curve of TensorBoard, which does not say of which run it is.
    """
    header = next(iter(rows), {})
    if {"Wall time", "Step", "Value"} == set(header):
        raise ValueError(
            "it is one curve of TensorBoard (wall time, step, value), not a run a row; write a table with the last "
            "value of each run beside its size and tokens"
        )
    columns = list(header)
    series = {c: m for c in columns[1:] if (m := _SERIES.fullmatch(c)) and not c.endswith(("__MIN", "__MAX"))}
    others = [c for c in columns[1:] if c not in series and not c.endswith(("__MIN", "__MAX"))]
    if not series or others or columns[0] not in _AXES:
        return rows
    made: dict[str, dict[str, Any]] = {}
    for column, match in series.items():
        last = next((row for row in reversed(rows) if row.get(column) not in (None, "")), None)
        if last is not None:
            run = made.setdefault(match["run"], {"Name": match["run"]})
            run[columns[0]] = last[columns[0]]
            run[match["metric"]] = last[column]
    return list(made.values())
