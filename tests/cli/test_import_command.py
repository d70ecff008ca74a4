"""`qatplan import`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qatplan import runs
from qatplan.cli.app import main

CSV = "N,tokens,w_bits,val,seed\n1000000,100000000,4,3.25,0\n1000000,100000000,16,3.0,0\n1000000,100000000,2,-3.5,0\n"
MAPS = ["--map", "n_params=N", "--map", "d_total=20*N*5", "--map", "bits=w_bits", "--map", "loss=val"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "theirs.csv"
    path.write_text(CSV)
    return path


def test_json_accounts_for_every_row(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "runs.parquet"
    assert main(["import", str(source), "--out", str(out), *MAPS, "--const", "fraction=1", "--json"]) == 4
    printed = capsys.readouterr()
    shown = json.loads(printed.out)
    table = runs.read(out)
    assert (shown["rows_read"], shown["rows_written"], table.num_rows) == (3, 2, 2)
    assert shown["digest"] == runs.digest(table)
    assert shown["rejected"] == [
        {"row": 3, "field": "loss", "reason": "loss is -3.5; it must be more than 0", "kind": "unusable"}
    ]
    assert shown["unused_columns"] == ["tokens"]
    assert shown["mapping"]["d_total"] == "20*N*5"
    *notes, error = printed.err.splitlines()
    assert notes == [f"note: {remark}" for remark in shown["notes"]]
    assert "1 of 3 rows" in error
    assert "row 3: loss is -3.5" in error
    assert table.column("d_total").to_pylist() == [10**8, 10**8]


def test_text_lists_what_was_left_out(
    source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source.parent)
    assert main(["import", source.name, "--out", "runs.parquet", *MAPS, "--const", "fraction=1"]) == 4
    text = capsys.readouterr().out
    assert text.startswith("Imported\n  2 of 3 rows written to runs.parquet; 1 cannot be used.\n")
    assert "  - columns not used: tokens\n" in text
    assert "1 row not written\n  - row 3: loss is -3.5; it must be more than 0\n" in text
    assert max(map(len, text.splitlines())) <= 80


def test_long_lists_of_rows_are_cut_and_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"1000000,100000000,4,{3 + i / 1000},0\n" for i in range(3)) + "".join(
        f"50,100000000,4,20,{i}\n" for i in range(30)
    )
    (tmp_path / "theirs.csv").write_text("N,tokens,w_bits,val,seed\n" + rows)
    command = ["import", "theirs.csv", "--out", "a.parquet", *MAPS, "--const", "fraction=1"]
    assert main([*command, "--keep-suspect"]) == 0
    text = capsys.readouterr().out
    assert "30 rows written although they look wrong\n" in text
    assert main([*command, "--force"]) == 4
    text = capsys.readouterr().out
    assert "30 rows not written\n" in text
    assert text.count("  - row ") == 50
    assert "... and " in text.splitlines()[-1]
    assert main(["import", "theirs.csv", "--out", "b.parquet", *MAPS[:-1], "loss=seed", "--const", "fraction=1"]) == 3
    assert "None of 33 rows can be used; nothing was written." in capsys.readouterr().out


def test_an_existing_table_is_kept_unless_forced(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs.parquet"
    out.write_bytes(b"precious")
    command = ["import", str(source), "--out", str(out), *MAPS, "--const", "fraction=1"]
    assert main(command) == 2
    assert "exists; --force overwrites it." in capsys.readouterr().err
    assert out.read_bytes() == b"precious"
    assert main([*command, "--force"]) == 4
    assert runs.read(out).num_rows == 2


def test_nothing_usable_ends_with_3_and_writes_nothing(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs.parquet"
    command = ["import", str(source), "--out", str(out), *MAPS[:-1], "loss=seed", "--const", "fraction=1"]
    assert main([*command, "--json"]) == 3
    printed = capsys.readouterr()
    shown = json.loads(printed.out)
    assert shown["out"] is None
    assert len(shown["rejected"]) == 3
    assert "qatplan: No row of " in printed.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--out", "runs.csv"], "a runs table is a .parquet file"),
        (["--out", "r.parquet", "--map", "loss"], "--map 'loss' is not of the form FIELD=COLUMN"),
        (["--out", "r.parquet", "--const", "d_fp="], "--const 'd_fp=' is not of the form FIELD=VALUE"),
        (["--out", "r.parquet", "--map", "loss=val", "--map", "loss=seed"], "--map gives loss twice"),
        (["--out", "r.parquet", "--map", "los=val"], "'los' is no field of a run (did you mean 'loss'?)"),
    ],
)
def test_usage_errors(
    source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, extra: list[str], message: str
) -> None:
    monkeypatch.chdir(source.parent)
    assert main(["import", str(source), *extra]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert sorted(path.name for path in source.parent.iterdir()) == ["theirs.csv"]


def test_rows_that_are_no_results_of_their_own_are_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    header = "run_id,state,n_params,d_total,step,max_steps,loss\n"
    rows = [
        "a,finished,1000000,50000000,50,100,3.5", "a,finished,1000000,100000000,100,100,3.2",
        "b,finished,2000000,100000000,100,100,3.1", "c,crashed,2000000,100000000,100,100,",
        "b,finished,2000000,100000000,100,100,3.1",
    ]  # fmt: skip
    (tmp_path / "theirs.csv").write_text(header + "\n".join(rows))
    assert main(["import", "theirs.csv", "--out", "a.parquet", "--map", "status=state"]) == 0
    head = " ".join(capsys.readouterr().out.split("- ")[0].split())
    others = "1 is an intermediate checkpoint; 1 did not finish; 1 is given twice."
    assert head == f"Imported 2 of 5 rows written to a.parquet; {others}"
    # A loss that cannot be one is another matter, even in a single row.
    (tmp_path / "theirs.csv").write_text(header + "\n".join([*rows[:2], "d,finished,2000000,100000000,100,100,n/a"]))
    assert main(["import", "theirs.csv", "--out", "b.parquet", "--map", "status=state"]) == 4
    assert runs.read("b.parquet").num_rows == 1
    assert "row 3: loss is missing" in capsys.readouterr().err
