"""Tables in the shapes and encodings that trackers, trainers and spreadsheets write."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qatplan.errors import DataError, UsageError
from qatplan.importing.importer import import_runs
from qatplan.importing.source import read_source

MAPPING = {"n_params": "n", "d_total": "tokens", "loss": "val"}
A = {"n": 10**6, "tokens": 10**8, "val": 3.25}
B = {"n": 2 * 10**6, "tokens": 10**8, "val": 3.0}


def read(path: Path, content: Any) -> list[dict[str, Any]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [dict(row) for row in read_source(path).rows]


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        ({"a": A, "b": B}, [{"group": "a", **A}, {"group": "b", **B}]),
        ({"run": A}, [{"group": "run", **A}]),
        ({"rtn": [A], "lsq": [B, A]}, [{"group": "rtn", **A}, {"group": "lsq", **B}, {"group": "lsq", **A}]),
        (A, [A]),
        ({**A, "tags": [], "args": {"lr": 0.1}}, [{**A, "tags": [], "args.lr": 0.1}]),
        ({"config": {"n": 1, "d": 2}, "summary": {"loss": 3.0}}, [{"config.n": 1, "config.d": 2, "summary.loss": 3.0}]),
        (
            {"columns": ["n", "val"], "index": [0, 1], "data": [[1, 3.0], [2, 2.0]]},
            [{"n": 1, "val": 3.0}, {"n": 2, "val": 2.0}],
        ),
        ([["n", "val"], [1, 3.0], [2, 2.0]], [{"n": 1, "val": 3.0}, {"n": 2, "val": 2.0}]),
        ([{"n": 1, "evals": [{"loss": 3.0}, {"loss": 2.5}]}], [{"n": 1, "evals.0.loss": 3.0, "evals.1.loss": 2.5}]),
        (
            {"loss": {"a": 3.0, "b": 2.0}, "n_params": {"a": 5, "b": 6}},
            [{"loss": 3.0, "n_params": 5}, {"loss": 2.0, "n_params": 6}],
        ),
        (
            {"max_steps": 20, "log_history": [{"step": 10, "loss": 3.0}, {"step": 20, "eval_loss": 2.9}]},
            [{"max_steps": 20, "step": 10, "loss": 3.0}, {"max_steps": 20, "step": 20, "eval_loss": 2.9}],
        ),
        (
            {"results": {"wikitext": {"word_perplexity,none": 20.5}}, "config": {"model": "m"}},
            [{"results.wikitext.word_perplexity,none": 20.5, "config.model": "m"}],
        ),
    ],
)  # fmt: skip
def test_json(tmp_path: Path, value: Any, rows: list[dict[str, Any]]) -> None:
    assert read(tmp_path / "a.json", json.dumps(value)) == rows


def test_a_folder_is_a_table_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "runs" / "deep").mkdir(parents=True)
    (tmp_path / "runs" / "a.json").write_text(json.dumps(A))
    (tmp_path / "runs" / "deep" / "b.jsonl.gz").write_bytes(gzip.compress(f"{json.dumps(B)}\nbad\n".encode()))
    (tmp_path / "runs" / "notes.txt").write_text("x")
    source = read_source(tmp_path / "runs")
    assert [dict(row) for row in source.rows] == [{"file": "a", **A}, {"file": "b", **B}, {"file": "b"}]
    assert set(source.broken) == {3}


def test_a_chart_of_wandb_gives_the_end_of_each_run(tmp_path: Path) -> None:
    text = (
        '"Step","big-1 - val/loss","big-1 - val/loss__MIN","big-1 - val/loss__MAX","small - val/loss"\n'
        '"10","3.5","3.5","3.5","3.9"\n"20","3.2","3.2","3.2","3.6"\n"30","","","","3.5"\n'
    )
    assert read(tmp_path / "a.csv", text) == [
        {"Name": "big-1", "Step": "20", "val/loss": "3.2"},
        {"Name": "small", "Step": "30", "val/loss": "3.5"},
    ]


PLAIN = "n,tokens,val\n50000000,1000000000,3.25\n"
EUROPEAN = "n;tokens;val\n50.000.000;1000000000;3,25\n"


@pytest.mark.parametrize(
    "content",
    [
        'n,tokens,val\n"50,000,000","1,000,000,000",3.25\n', EUROPEAN, f"sep=;\n{EUROPEAN}", '"sep=,"\r\n' + PLAIN,
        PLAIN.replace(",", "|"), PLAIN.replace(",", "\t"), PLAIN.encode("utf-16"), PLAIN.encode("utf-16-le"),
        b"\xef\xbb\xbf" + PLAIN.encode(), PLAIN.replace("\n", ",M\xfcller\n").encode("latin-1"),
        gzip.compress(PLAIN.encode(), mtime=0), pa.compress(PLAIN.encode(), "zstd", asbytes=True),
        "n,note,note,tokens,val\n50000000,a,b,1000000000,3.25\n",
    ],
    ids=str.split(
        "quoted european sep sep-quoted bars tabs utf-16 utf-16-le bom latin-1 gzip zstd twice"
    ),
)  # fmt: skip
def test_spreadsheets(tmp_path: Path, content: str | bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    table = import_runs(tmp_path / "a.csv", MAPPING).table
    assert [table.column(c).to_pylist() for c in ("n_total", "d_total", "loss")] == [[50_000_000], [10**9], [3.25]]


def test_a_header_given_twice_is_refused_where_it_is_used(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n,n,tokens,val\n50000000,1,1000000000,3.25\n")
    with pytest.raises(UsageError, match="The column 'n', of which n_total is made, appears more than once"):
        import_runs(tmp_path / "a.csv", MAPPING)


def test_shares_times_and_truths(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n,tokens,val,share,took,ok,bits\n50000000,1000000000,3.25,10%,1:02:03,TRUE,4\n")
    mapping = {**MAPPING, "fraction": "share", "seconds": "took"}
    table = import_runs(tmp_path / "a.csv", mapping).table
    assert table.column("d_qat").to_pylist() == [10**8]
    assert table.column("seconds").to_pylist() == [3723.0]


def test_a_workbook(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    lines = ([], ["n", "tokens", "val", "when"], [50_000_000, 1e9, 3.25, dt.date(2026, 1, 2)], [60_000_000, None, 3.5])
    for line in lines:
        sheet.append(line)
    book.create_sheet("notes").append(["not", "read"])
    book.save(tmp_path / "a.xlsx")
    result = import_runs(tmp_path / "a.xlsx", MAPPING)
    assert result.table.column("n_total").to_pylist() == [50_000_000]
    assert result.table.column("d_total").to_pylist() == [10**9]
    assert {o.row for o in result.rejected} == {2}
    assert any(o.reason.startswith("d_total is missing") for o in result.rejected)


def test_what_is_no_workbook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.xlsx").write_bytes(b"n,tokens\n")
    with pytest.raises(DataError, match="cannot be read as xlsx"):
        read_source(tmp_path / "a.xlsx")
    with zipfile.ZipFile(tmp_path / "b.xlsx", "w") as archive:
        archive.writestr("any", "thing")
    with pytest.raises(DataError, match="cannot be read as xlsx"):
        read_source(tmp_path / "b.xlsx")
    with zipfile.ZipFile(tmp_path / "c.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", "0" * 10_000_000)
    with pytest.raises(DataError, match="needs more than 10 MiB of memory"):
        read_source(tmp_path / "c.xlsx", 10 * 2**20)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(UsageError, match="needs openpyxl to be read: pip install"):
        read_source(tmp_path / "b.xlsx")


def test_memory_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "zeros.csv.gz").write_bytes(gzip.compress(b"n\n" + b"0\n" * 500_000))
    pq.write_table(pa.table({"n": pa.array([0] * 500_000)}), tmp_path / "zeros.parquet")
    (tmp_path / "zeros.json").write_text(json.dumps([{"n": 0}] * 50_000))
    for file in sorted(tmp_path.iterdir()):
        with pytest.raises(DataError, match=r"needs more than 10 MiB of memory as a table; .* --limit 20MiB\."):
            read_source(file, 10 * 2**20)
    assert len(read_source(tmp_path / "zeros.parquet").rows) == 500_000


def test_columns_and_rows_cost_no_more_than_their_number(tmp_path: Path) -> None:
    """40,000 columns and 2,000 runs of 20 checkpoints each took minutes as long as time grew with the square."""
    wide = {**A, **{f"layer{i}/grad": 0.5 for i in range(40_000)}}
    (tmp_path / "wide.json").write_text(json.dumps([wide, {**wide, **B}]))
    assert import_runs(tmp_path / "wide.json", MAPPING).table.num_rows == 2
    (tmp_path / "wide.csv").write_text(f"{','.join(wide)}\n{','.join(map(str, wide.values()))}\n")
    assert import_runs(tmp_path / "wide.csv", MAPPING).table.num_rows == 1
    rows = [
        {**A, "run": f"r{i}", "step": step, "tokens": step * 10**6, "seed": i}
        for i in range(2000)
        for step in range(1, 21)
    ]
    (tmp_path / "long.json").write_text(json.dumps(rows))
    result = import_runs(tmp_path / "long.json", MAPPING)
    assert result.table.num_rows == 2000
    assert len(result.rejected) == 38_000
