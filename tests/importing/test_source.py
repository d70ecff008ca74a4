"""Foreign files as plain rows."""

from __future__ import annotations

import gzip
import json
import math
import os
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qatplan.errors import DataError, UsageError
from qatplan.importing.source import read_source

ROWS = [{"n": 100, "loss": 3.5, "name": "a,b"}, {"n": 2**70, "loss": None, "name": 'say "hi"'}]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_json_lines_json_and_gzip_agree(tmp_path: Path) -> None:
    lines = "\n".join(map(json.dumps, ROWS)) + "\n\n"
    files = [
        write(tmp_path / "a.jsonl", lines),
        write(tmp_path / "a.ndjson.gz", gzip.compress(lines.encode())),
        write(tmp_path / "a.json", json.dumps(ROWS)),
        write(tmp_path / "b.json", json.dumps({"runs": ROWS, "count": 2})),
        write(tmp_path / "c.json.gz", gzip.compress(json.dumps(ROWS).encode())),
        write(tmp_path / "d.json", json.dumps({k: {str(i): r[k] for i, r in enumerate(ROWS)} for k in ROWS[0]})),
        write(tmp_path / "e.json", json.dumps({k: [r[k] for r in ROWS] for k in ROWS[0]})),
    ]
    for file in files:
        source = read_source(file)
        assert [dict(row) for row in source.rows] == ROWS, file
        assert source.columns == ("n", "loss", "name")
        assert source.broken == {}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_keeps_text_as_it_is(tmp_path: Path, delimiter: str) -> None:
    text = "\ufeff" + delimiter.join(["n", "loss", "name"]) + "\r\n" + delimiter.join(["007", "", '"a\nb"']) + "\r\n"
    for file in (write(tmp_path / "a.csv", text), write(tmp_path / "a.csv.gz", gzip.compress(text.encode()))):
        source = read_source(file)
        assert source.columns == ("n", "loss", "name")
        assert dict(source.rows[0]) == {"n": "007", "loss": "", "name": "a\nb"}


def test_pandas_index_column_gets_a_name(tmp_path: Path) -> None:
    assert read_source(write(tmp_path / "a.csv", ",n\n0,5\n")).columns == ("index", "n")


def test_parquet_with_nested_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": [1, 2], "config": [{"lr": 0.1}, {"lr": 0.2}]}), tmp_path / "a.parquet")
    source = read_source(tmp_path / "a.parquet")
    assert source.columns == ("n", "config.lr")
    assert source.rows[1]["config.lr"] == 0.2


def test_nested_settings_become_dotted_names(tmp_path: Path) -> None:
    row = {"config": {"model": {"width": 3}, "lr": {"value": 0.1, "desc": None}}, "summary": '{"loss": 3.0}'}
    source = read_source(write(tmp_path / "a.json", json.dumps([row])))
    assert dict(source.rows[0]) == {"config.model.width": 3, "config.lr": 0.1, "summary.loss": 3.0}


def test_dictionaries_written_as_python_text_are_read(tmp_path: Path) -> None:
    first = "0,\"{'loss': nan, 'ok': True}\",\"{'lr': 0.1}\",one"
    text = f",summary,config,name\n{first}\n1,\"{{'loss': __import__('os')}}\",{{}},x\n"
    source = read_source(write(tmp_path / "project.csv", text))
    assert math.isnan(source.rows[0]["summary.loss"])
    assert source.rows[0]["summary.ok"] is True
    assert source.rows[0]["config.lr"] == 0.1
    assert source.rows[1]["summary"] == "{'loss': __import__('os')}"


def test_rows_that_cannot_be_read_keep_their_numbers(tmp_path: Path) -> None:
    source = read_source(write(tmp_path / "a.csv", "a,b\n1,2\n1\n\n3,4,5\n6,7\n"))
    assert set(source.broken) == {2, 3}
    assert source.broken[2] == "it has 1 cells where the header has 2"
    assert source.rows[3] == {"a": "6", "b": "7"}
    source = read_source(write(tmp_path / "a.jsonl", '{"a": 1}\n{"a": \n[1]\n{"a": 2}\n'))
    assert set(source.broken) == {2, 3}
    assert source.broken[3] == "it is not a JSON object"


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("a.ods", "x", UsageError, "unknown type; allowed are .csv"),
        ("a.xlsx", "x", DataError, "cannot be read as xlsx: File is not a zip file"),
        ("a.csv.zst", b"\x28\xb5\x2f\xfdbroken", DataError, "cannot be read as csv"),
        ("a.csv", "Wall time,Step,Value\n1.5,10,3.2\n", DataError, "one curve of TensorBoard"),
        ("a.json", "[[1.5, 10, 3.2], [1.6, 20, 3.1]]", DataError, "one curve of TensorBoard"),
        ("a.json", '{"columns": ["n"], "data": [[1, 2]]}', DataError, "the 1 cells of `columns`"),
        ("a", "x", UsageError, "unknown type"),
        ("a.json", "{", DataError, "cannot be read as json"),
        ("a.json", "3", DataError, "a list of objects is expected"),
        ("a.json", '{"a": [], "b": 3}', DataError, "has no rows"),
        ("a.json", '{"a": {"0": 1}, "b": 3}', DataError, "a list of objects is expected"),
        ("a.csv", "a,b\n", DataError, "has no rows"),
        ("a.csv.gz", b"\x1f\x8bbroken", DataError, "cannot be read as csv"),
        ("a.parquet", "x", DataError, "cannot be read as parquet"),
        ("a.json", "[" * 100_000, DataError, "cannot be read as json"),
    ],
)
def test_unreadable_files_are_named(tmp_path: Path, name: str, content: str | bytes, error: type, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        read_source(write(tmp_path / name, content))
    assert "\n" not in str(caught.value)


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("n,loss\n1,2\n")
    assert len(read_source(tmp_path).rows) == 1
    with pytest.raises(DataError, match=r"a\.csv is no regular file but a device or a pipe, and is not read\."):
        read_source(tmp_path / "a.csv")


def test_a_sheet_of_billions_of_empty_cells_is_refused(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.cell(2**20, 2**14, 1)
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(DataError, match="needs more than 64 MiB of memory as a table"):
        read_source(tmp_path / "a.xlsx", 2**26)


def test_absent_files_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no table"):
        read_source(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        read_source(tmp_path / "a.csv")
