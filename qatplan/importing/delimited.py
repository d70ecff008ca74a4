"""Delimited text as rows: the separators, headers and decimal commas that spreadsheets write."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from typing import Any

from qatplan.importing.content import Bound

_DELIMITERS = ",;\t|"
_SEP_LINE = re.compile(r"\A\"?sep=(.)\"?\r?\n", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?|[+-]?\d{1,3}(?:\.\d{3})+(?:,\d+)?")
_EVIDENCE = 1000
"""Rows that are looked at to see whether a file has decimal commas."""


def read_delimited(text: str, broken: dict[int, str], bound: Bound) -> list[Mapping[str, Any]]:
    """Rows of CSV text, cells as they stand but for decimal commas, which become points.

    `broken` gains the rows that cannot be read, by number. A header given twice names its second column `name (2)`.
    """
    given = _SEP_LINE.match(text)
    if given:
        text = text[given.end() :]
    first = text.split("\n", 1)[0]
    delimiter = given[1] if given else max(_DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    names = _names(next(reader, []))
    cells_of: list[list[str]] = []
    for cells in reader:
        if cells:
            bound.add(1, len(cells))
            cells_of.append(cells)
    if delimiter != "," and _has_decimal_commas(cells_of):
        cells_of = [[_with_point(cell) for cell in cells] for cells in cells_of]
    rows: list[Mapping[str, Any]] = []
    for cells in cells_of:
        if len(cells) != len(names):
            broken[len(rows) + 1] = f"it has {len(cells)} cells where the header has {len(names)}"
            rows.append({})
        else:
            rows.append(dict(zip(names, cells, strict=True)))
    return rows


def _names(header: list[str]) -> list[str]:
    names: list[str] = []
    counts: dict[str, int] = {}
    for i, title in enumerate(header):
        # pandas writes its index as a column without a name.
        name = title.strip() or ("index" if i == 0 else f"column {i + 1}")
        counts[name] = counts.get(name, 0) + 1
        names.append(name if counts[name] == 1 else f"{name} ({counts[name]})")
    return names


def _has_decimal_commas(rows: list[list[str]]) -> bool:
    """Whether numbers are written 3,25 throughout: some are, and none is written 3.25."""
    cells = [cell.strip() for row in rows[:_EVIDENCE] for cell in row]
    points = any(re.fullmatch(r"[+-]?\d+\.\d+(?:[eE][+-]?\d+)?", c) and not _DECIMAL_COMMA.fullmatch(c) for c in cells)
    return not points and any(re.fullmatch(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?", cell) for cell in cells)


def _with_point(cell: str) -> str:
    stripped = cell.strip()
    return stripped.replace(".", "").replace(",", ".") if _DECIMAL_COMMA.fullmatch(stripped) else cell
