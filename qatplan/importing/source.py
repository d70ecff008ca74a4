"""Anybody's table of runs as plain Python values: CSV, JSON, JSON Lines (each also compressed), Parquet and Excel.

Values stay exactly what the file says (text in CSV, integers of any size in JSON), so that what is suspicious in them
can still be seen; nested objects become columns with dotted names.
"""

from __future__ import annotations

import ast
import csv
import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from qatplan.errors import DataError, UsageError
from qatplan.importing.charts import chart_rows
from qatplan.importing.content import DEFAULT_LIMIT, Bound, text
from qatplan.importing.delimited import read_delimited
from qatplan.importing.layouts import rows_of
from qatplan.importing.trackers import is_tracker, read_tracker
from qatplan.importing.workbook import read_workbook

FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".xlsx")
_DEEPEST = 20
_LONGEST = 100
"""Objects in a list that become columns of their own, such as results.0.loss."""
_BATCH = 10_000
_PACKED = frozenset({"config", "summary"})
_NESTED = frozenset({dict, list})


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


def read_source(path: str | Path, limit: int = DEFAULT_LIMIT) -> Source:
    """Read a foreign table, a folder of them whose names become the column `file`, or the runs of a tracker.

    `limit` is the memory that its rows may take. Raises UsageError for an unknown type, DataError for a file that is
    not of its type, or too large.
    """
    place = Path(path)
    bound = Bound(place, limit)
    if isinstance(path, str) and is_tracker(path):
        return _source(place, read_tracker(path, bound), {})
    files = [place]
    if place.is_dir():
        found = (file for file in place.rglob("*") if _kind(file) in FORMATS and not file.name.startswith("."))
        files = sorted(file for file in found if file.is_file())
        if not files:
            raise DataError(
                f"{place} holds no table; read are {', '.join(FORMATS)}, text formats also as .gz and .zst."
            )
    elif not place.is_file():
        there = "is no regular file but a device or a pipe, and is not read" if place.exists() else "does not exist"
        raise DataError(f"{place} {there}.")
    rows: list[Mapping[str, Any]] = []
    broken: dict[int, str] = {}
    for file in files:
        within: dict[int, str] = {}
        read = _read(file, within, bound)
        broken |= {len(rows) + row: why for row, why in within.items()}
        rows += read if len(files) == 1 else [{"file": _stem(file), **row} for row in read]
    return _source(place, rows, broken)


def _source(place: Path, rows: Sequence[Mapping[str, Any]], broken: Mapping[int, str]) -> Source:
    flat = tuple(row if _is_flat(row) else dict(_leaves(row)) for row in rows)
    columns = tuple(dict.fromkeys(chain.from_iterable(flat)))
    if not flat or not columns:
        raise DataError(f"{place} has no rows.")
    return Source(path=place, columns=columns, rows=flat, broken=broken)


def _read(file: Path, broken: dict[int, str], bound: Bound) -> Sequence[Mapping[str, Any]]:
    kind = _kind(file)
    if kind not in FORMATS:
        raise UsageError(
            f"{file} is of an unknown type; allowed are {', '.join(FORMATS)}, text formats also as .gz and .zst, and a "
            "folder of them."
        )
    try:
        if kind == ".parquet":
            return _read_parquet(file, bound)
        if kind == ".xlsx":
            return read_workbook(file, bound)
        content = text(file, bound)
        if kind in (".csv", ".tsv"):
            return chart_rows(read_delimited(content, broken, bound))
        found = rows_of(json.loads(content)) if kind == ".json" else _read_lines(content, broken)
        bound.add(len(found), sum(map(len, found)))
        return found
    except (OSError, EOFError, ValueError, RecursionError, csv.Error, zlib.error, zipfile.BadZipFile) as error:
        why = (str(error) or repr(error)).splitlines()[0]
        raise DataError(f"{file} cannot be read as {kind[1:]}: {why.rstrip('.')}.") from error


def _kind(file: Path) -> str:
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if len(suffixes) > 1 and suffixes[-1] in (".gz", ".zst"):
        return suffixes[-2]
    return suffixes[-1] if suffixes else ""


def _stem(file: Path) -> str:
    return file.name.split(".", 1)[0] if _kind(file) != file.suffix else file.stem


def _read_lines(content: str, broken: dict[int, str]) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = []
    for line in content.splitlines():
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


def _read_parquet(file: Path, bound: Bound) -> list[Mapping[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
            # The footer says how many there are before any is read: zeros take no room in a file.
            bound.add(parquet.metadata.num_rows, parquet.metadata.num_rows * parquet.metadata.num_columns)
            return [row for batch in parquet.iter_batches(_BATCH) for row in batch.to_pylist()]
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error


def _is_flat(row: Mapping[str, Any]) -> bool:
    return _PACKED.isdisjoint(row) and _NESTED.isdisjoint(map(type, row.values()))


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
        elif isinstance(inner, list) and inner and len(inner) <= _LONGEST and all(isinstance(c, dict) for c in inner):
            yield from _leaves({str(i): cell for i, cell in enumerate(inner)}, f"{name}.", depth + 1)
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
