"""JSON of many shapes as rows: lists, groups, columns, one object, logs of trainers and results of harnesses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qatplan.importing.recognise import SYNONYMS, normalised

GROUP = "group"
"""The column that the name of a group becomes."""
_LEAST = 3
"""Numbers that a single run has: its size, its tokens and its loss."""
_EXPECTED = (
    "a list of objects is expected, or {name: object}, {name: [objects]}, {column: {row: value}}, {column: [values]}, "
    "or the `split` layout of pandas"
)


def rows_of(value: Any) -> list[Mapping[str, Any]]:
    """The rows that a JSON value holds; ValueError naming what is expected where it holds none.

    >>> rows_of({"a": {"n": 1}, "b": {"n": 2, "loss": 3.0}})
    [{'group': 'a', 'n': 1}, {'group': 'b', 'n': 2, 'loss': 3.0}]
    """
    if isinstance(value, list):
        return _list(value)
    if not isinstance(value, dict) or not value:
        raise ValueError(_EXPECTED)
    if {"columns", "data"} <= value.keys() and isinstance(value["data"], list):
        return _split(value)
    if isinstance(value.get("log_history"), list):
        return _trainer_state(value)
    if isinstance(value.get("results"), dict) and {"configs", "versions", "config", "n-shot"} & value.keys():
        # lm-evaluation-harness: one file is one model, its metrics by task.
        return [value]
    inner = list(value.values())
    if all(isinstance(cell, dict) for cell in inner):
        return _objects(value)
    lists = [cell for cell in inner if isinstance(cell, list)]
    of_objects = [cell for cell in lists if cell and all(isinstance(row, dict) for row in cell)]
    if len(lists) == len(inner) and len(of_objects) == len(inner):
        groups = [({GROUP: name} if len(inner) > 1 else {}) for name in value]
        return [{**group, **row} for group, rows in zip(groups, inner, strict=True) for row in rows]
    if len(lists) == len(inner) and not of_objects:
        return _columns({name: dict(enumerate(cells)) for name, cells in value.items()})
    if len(of_objects) == len(lists) == 1:
        # {"runs": [...], "count": 3}: the only list holds the rows.
        return _list(lists[0])
    if not of_objects and _numbers(value) >= _LEAST:
        return [value]
    if lists == [[]]:
        return []
    raise ValueError(_EXPECTED)


def _list(value: Sequence[Any]) -> list[Mapping[str, Any]]:
    if value and all(isinstance(row, dict) for row in value):
        return list(value)
    if len(value) > 1 and all(isinstance(row, list) for row in value) and all(isinstance(c, str) for c in value[0]):
        # A header and its rows, as a spreadsheet would have them.
        return [dict(zip(value[0], row, strict=False)) for row in value[1:]]
    if value and all(isinstance(row, list) and len(row) == 3 and _is_number(row[1]) for row in value):
        raise ValueError(
            "it holds the scalars of one curve of TensorBoard (wall time, step, value), not a run a row; "
            "export the last value of each run with its settings"
        )
    raise ValueError(_EXPECTED)


def _objects(value: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """{run: {setting: value}}, {column: {row: value}} or {part: {setting: value}} of a single run."""
    keys = [{str(key) for key in cells} for cells in value.values()]
    labels = set().union(*keys)
    if labels and all(label.isdigit() for label in labels):
        return _columns(value)
    if len(keys) > 1 and not set.intersection(*keys):
        return [value]
    if _fields_among(value) > _fields_among(labels):
        return _columns(value)
    return [{GROUP: name, **cells} for name, cells in value.items()]


def _fields_among(names: Iterable[str]) -> int:
    known = {name for synonyms in SYNONYMS.values() for name in synonyms} | SYNONYMS.keys() | {"n", "d", "loss"}
    return sum(normalised(str(name)) in known for name in names)


def _columns(columns: Mapping[str, Mapping[Any, Any]]) -> list[Mapping[str, Any]]:
    """Rows of what `DataFrame.to_json()` writes: {column: {row label: value}}."""
    labels = list(dict.fromkeys(label for cells in columns.values() for label in cells))
    return [{name: cells[label] for name, cells in columns.items() if label in cells} for label in labels]


def _split(value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Rows of `DataFrame.to_json(orient="split")`."""
    names = [str(name) for name in value["columns"]]
    if any(not isinstance(row, list) or len(row) != len(names) for row in value["data"]):
        raise ValueError(f"each of its rows must have the {len(names)} cells of `columns`")
    return [dict(zip(names, row, strict=True)) for row in value["data"]]


def _trainer_state(value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The logged steps of a trainer's state, each with the settings of the run."""
    settings = {name: cell for name, cell in value.items() if not isinstance(cell, (list, dict))}
    return [{**settings, **entry} for entry in value["log_history"] if isinstance(entry, dict)]


def _numbers(value: Any) -> int:
    """How many numbers an object holds, those of its parts among them."""
    if isinstance(value, dict):
        return sum(map(_numbers, value.values()))
    return int(_is_number(value))


def _is_number(cell: Any) -> bool:
    return isinstance(cell, (int, float)) and not isinstance(cell, bool)
