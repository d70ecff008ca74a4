"""Anybody's table of runs as plain Python values: CSV, JSON, JSON Lines (each also gzipped) and Parquet.

Values stay exactly what the file says (text in CSV, integers of any size in JSON), so that what is suspicious in them
can still be seen; nested objects become columns with dotted names.
"""

from __future__ import annotations

import ast
import csv
import gzip
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from qatplan.errors import DataError, UsageError

FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")
_GZIP = b"\x1f\x8b"
_DEEPEST = 20
_PACKED = frozenset({"config", "summary"})


@dataclass(frozen=True, kw_only=True)
class Source:
    """The rows of a foreign file, numbered from 1 in file order."""

    path: Path
    columns: tuple[str, ...]
    """Names in the order of their first appearance."""
    rows: tuple[Mapping[str, Any], ...]
    """Values by column name; a column that a row does not have is absent from it."""
    broken: Mapping[int, str]
    """Row number -> why the row could not be read; its entry in `rows` is empty."""


def read_source(path: str | Path) -> Source:
    """Read a foreign table. Raises UsageError for an unknown type, DataError for a file that is not of its type."""
    file = Path(path)
    if not file.is_file():
        raise DataError(f"{file} does not exist or is a folder; name one file.")
    suffixes = [suffix.lower() for suffix in file.suffixes]
    kind = suffixes[-2] if len(suffixes) > 1 and suffixes[-1] == ".gz" else suffixes[-1] if suffixes else ""
    if kind not in FORMATS:
        raise UsageError(f"{file} is of an unknown type; allowed are {', '.join(FORMATS)}, text formats also as .gz.")
    broken: dict[int, str] = {}
    try:
        if kind == ".parquet":
            rows = _read_parquet(file)
        elif kind in (".csv", ".tsv"):
            rows = _read_csv(_text(file), broken)
        else:
            rows = _read_json(_text(file)) if kind == ".json" else _read_lines(_text(file), broken)
    except (OSError, EOFError, ValueError, RecursionError, csv.Error) as error:
        why = (str(error) or repr(error)).splitlines()[0]
        raise DataError(f"{file} cannot be read as {kind[1:]}: {why}.") from error
    flat = tuple(row if _is_flat(row) else dict(_leaves(row)) for row in rows)
    columns = tuple(dict.fromkeys(chain.from_iterable(flat)))
    if not flat or not columns:
        raise DataError(f"{file} has no rows.")
    return Source(path=file, columns=columns, rows=flat, broken=broken)


def _text(file: Path) -> str:
    content = file.read_bytes()
    if content.startswith(_GZIP):
        content = gzip.decompress(content)
    # Spreadsheets and Windows tools begin UTF-8 files with a byte-order mark.
    return content.decode("utf-8-sig")


def _read_csv(text: str, broken: dict[int, str]) -> list[Mapping[str, Any]]:
    delimiter = max(",;\t", key=text.split("\n", 1)[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header = next(reader, [])
    # pandas writes its index as a column without a name.
    names = [name.strip() or ("index" if i == 0 else f"column {i + 1}") for i, name in enumerate(header)]
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"the column '{name}' appears more than once")
    rows: list[Mapping[str, Any]] = []
    for cells in reader:
        if not cells:
            continue
        if len(cells) != len(names):
            broken[len(rows) + 1] = f"it has {len(cells)} cells where the header has {len(names)}"
            rows.append({})
        else:
            rows.append(dict(zip(names, cells, strict=True)))
    return rows


def _read_lines(text: str, broken: dict[int, str]) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = []
    for line in text.splitlines():
        if not line.strip():
            continue
        row, why = None, "it is not a JSON object"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            why = f"it is not JSON ({error})"
        if not isinstance(row, dict):
            broken[len(rows) + 1], row = why, {}
        rows.append(row)
    return rows


def _read_json(text: str) -> list[Mapping[str, Any]]:
    value = json.loads(text)
    if isinstance(value, dict):
        lists = [inner for inner in value.values() if isinstance(inner, list)]
        if value and all(isinstance(inner, dict) for inner in value.values()):
            value = _from_columns(value)
        elif len(lists) == len(value) > 0 and not any(isinstance(cell, dict) for inner in lists for cell in inner):
            value = _from_columns({name: dict(enumerate(cells)) for name, cells in value.items()})
        elif len(lists) == 1:
            # {"runs": [...], "count": 3}: the only list holds the rows.
            value = lists[0]
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise ValueError("a list of objects is expected")
    return value


def _from_columns(columns: Mapping[str, Mapping[Any, Any]]) -> list[dict[str, Any]]:
    """Rows of what `DataFrame.to_json()` writes: {column: {row label: value}}."""
    labels = list(dict.fromkeys(label for cells in columns.values() for label in cells))
    return [{name: cells[label] for name, cells in columns.items() if label in cells} for label in labels]


def _read_parquet(file: Path) -> list[Mapping[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
            rows: list[Mapping[str, Any]] = parquet.read().to_pylist()
            return rows
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error


def _is_flat(row: Mapping[str, Any]) -> bool:
    return not (row.keys() & _PACKED or any(isinstance(value, (dict, list)) for value in row.values()))


def _leaves(row: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterable[tuple[str, Any]]:
    for key, value in row.items():
        name = f"{prefix}{key}"
        inner = _unpacked(name, value)
        if isinstance(inner, dict) and depth < _DEEPEST:
            # W&B stores a setting as {"value": ..., "desc": null}.
            if "value" in inner and set(inner) <= {"value", "desc"}:
                yield name, inner["value"]
            else:
                yield from _leaves(inner, f"{name}.", depth + 1)
        else:
            yield name, inner


def _unpacked(name: str, value: Any) -> Any:
    """W&B's own export script writes `config` and `summary` as the text of Python dictionaries into a CSV."""
    if name not in _PACKED or not isinstance(value, str) or not value.lstrip().startswith("{"):
        return value
    try:
        return json.loads(value)
    except ValueError:
        pass
    try:
        tree = ast.parse(value.strip(), mode="eval")
        return ast.literal_eval(_NumbersByName().visit(tree))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


class _NumbersByName(ast.NodeTransformer):
    """`nan` and `inf` in the text of a dictionary are numbers, which literal_eval does not know."""

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Constant(float(node.id)) if node.id in ("nan", "inf") else node
