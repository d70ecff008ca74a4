"""`qatplan runs`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qatplan import runs
from qatplan.cli.app import main
from qatplan.runs.summary import Count, summarise

FULL_PRECISION = {"bits": None, "d_fp": 2000, "d_qat": 0, "schedule": "full-precision"}


def row(name: str, **changes: Any) -> dict[str, Any]:
    base = {"run_id": name, "n_total": 100, "d_total": 2000, "d_fp": 1500, "d_qat": 500, "bits": 4.0, "seed": 0}
    return {**base, "schedule": "classic", "loss": 3.0, "status": "finished", "trunk_id": "t", **changes}


ROWS = [
    row("a"),
    row("b", bits=2.0, loss=3.5, seed=1),
    row("c", **FULL_PRECISION, loss=2.75),
    row("d", n_total=200, n_nonembedding=150, d_total=8000, d_fp=2000, d_qat=6000, trunk_id="u"),
    row("e", n_total=200, loss=None, status="diverged", trunk_id="u"),
]


def test_summary_counts_what_is_there() -> None:
    summary = summarise(runs.table(ROWS))
    assert summary.rows == 5
    assert summary.status == (Count(value="diverged", runs=1), Count(value="finished", runs=4))
    assert summary.bits == (Count(value=2.0, runs=1), Count(value=4.0, runs=3), Count(value=None, runs=1))
    assert summary.quantizers == ()
    assert summary.fractions == (0.25, 0.75)
    assert summary.distinct_fractions == 2
    assert (summary.trunks, summary.tokens, summary.loss) == (2, 16000, (2.75, 3.5))
    small, large = summary.sizes
    assert (small.n_total, small.n_nonembedding, small.runs, small.bits) == (100, None, 3, (2.0, 4.0, None))
    assert (large.n_nonembedding, large.d_total, large.tokens_per_parameter) == (150, (2000, 8000), (10.0, 40.0))
    assert large.loss == (3.0, 3.0)


def test_summary_of_no_rows() -> None:
    summary = summarise(runs.table([]))
    assert (summary.rows, summary.sizes, summary.loss, summary.fractions) == (0, (), None, None)


def test_json_and_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = runs.table(ROWS)
    runs.write(table, tmp_path / "a.parquet")
    assert main(["runs", str(tmp_path), "--json"]) == 0
    printed = capsys.readouterr()
    shown = json.loads(printed.out)
    assert printed.err == ""
    assert shown["rows"] == 5
    assert shown["digest"] == runs.digest(table)
    assert shown["problems"] == []
    assert shown["bits"][-1] == {"value": None, "runs": 1}
    assert main(["runs", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("5 runs, 16K tokens on 2 trunks\n")
    assert "  status     diverged (1), finished (4)\n" in text
    assert "  bits       2 (1), 4 (3), full precision (1)\n" in text
    assert "  fraction   0.25 to 0.75 (2 distinct, of quantized runs)\n" in text
    assert "  quantizer  unknown\n" in text
    assert "  100               3  2K        20        2, 4, FP  2.75 to 3.5\n" in text


def test_rows_and_fields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs.write(runs.table(ROWS), tmp_path / "a.parquet")
    assert main(["runs", str(tmp_path), "--rows", "bits == 4 and fraction < 0.5", "--fields", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["rows"] == 2
    assert [field["name"] for field in shown["fields"]] == runs.SCHEMA.names
    assert main(["runs", str(tmp_path), "--rows", "bit == 4"]) == 2
    assert "did you mean 'bits'" in capsys.readouterr().err


def test_unusable_rows_are_listed_and_end_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.csv"
    path.write_text("run_id,n_total,d_total,loss\na,100,2000,3.0\nb,100,2000,-3.0\nc,0,2000,3.0\n")
    assert main(["runs", str(path), "--json"]) == 3
    printed = capsys.readouterr()
    problems = json.loads(printed.out)["problems"]
    assert [(p["row"], p["field"]) for p in problems] == [(2, "loss"), (3, "n_total")]
    assert printed.err == f"qatplan: 2 rows cannot be used; the first: Row 2 of {path}: {problems[0]['sentence']}\n"
    assert main(["runs", str(path)]) == 3
    assert "Rows that cannot be used\n  - Row 2 of" in capsys.readouterr().out


def test_compact_merges_and_overwrites_nothing_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from qatplan import runs

    base = {"n_total": 100, "d_total": 10, "d_fp": 10, "d_qat": 0, "loss": 1.5, "status": "finished"}
    for name in ("b", "a"):
        runs.write(runs.table([{**base, "run_id": name}]), tmp_path / "sweep" / f"{name}.parquet")
    target = tmp_path / "all.parquet"
    arguments = ["runs", str(tmp_path / "sweep"), "--compact", str(target)]
    assert main(arguments) == 0
    assert runs.read([target]).column("run_id").to_pylist() == ["a", "b"]
    first = target.read_bytes()
    assert main(arguments) == 2
    assert f"{target} exists; --force overwrites it." in capsys.readouterr().err
    assert main([*arguments, "--force"]) == 0
    assert target.read_bytes() == first


def test_no_line_is_wider_than_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(MAIN), "--fields"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("  ") for line in lines) > len(runs.FIELDS)


def test_long_lists_are_cut_and_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(str(i), n_total=100 + i, seed=i, loss=None, status="diverged", d_total=None) for i in range(25)]
    source = tmp_path / "a.csv"
    lines = [f"{r['run_id']},{r['n_total']},,{r['seed']}" for r in rows]
    source.write_text("\n".join(["run_id,n_total,d_total,seed", *lines]))
    assert main(["runs", str(source)]) == 3
    text = capsys.readouterr().out
    assert "  loss       unknown\n" in text
    assert " 19 (1) and 5 more\n" in text.replace("\n             ", " ")
    assert "... and 5 more sizes (all of them with --json)" in text
    assert "... and 55 more rows (all of them with --json)" in text


def test_nothing_is_compacted_while_a_row_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "a.csv", tmp_path / "all.parquet"
    source.write_text("n_total,d_total,loss\n100,2000,-3.0\n")
    assert main(["runs", str(source), "--compact", str(target)]) == 3
    message = capsys.readouterr().err
    assert f"{target} was not written, for a row cannot be used: Row 1 of {source}: loss is -3.0" in message
    assert not target.exists()


MAIN, RATES = (Path(__file__).parents[2] / "data" / name / "runs.parquet" for name in ("main", "qat-learning-rate"))


@pytest.mark.parametrize("extra", [[], ["--json"]])
def test_runs_that_two_shipped_sweeps_share_count_once(capsys: pytest.CaptureFixture[str], extra: list[str]) -> None:
    assert main(["runs", str(MAIN), str(RATES), *extra]) == 0
    printed = capsys.readouterr()
    distinct = {*runs.load(MAIN).column("run_id").to_pylist(), *runs.load(RATES).column("run_id").to_pylist()}
    assert f'"rows": {len(distinct)}' in printed.out or f"{len(distinct)} runs, " in printed.out
    assert printed.err.startswith("note: 11 rows give a run again, equal in all but sweep, time, machine and curves;")
    assert printed.err.count("\n") == 1


def test_a_fit_on_two_sweeps_that_share_runs_notes_it_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "fit.json"
    command = ["fit", str(MAIN), str(RATES), "--law", "chinchilla", "--bootstrap", "0", "--out", str(out)]
    assert main([*command, "--rows", "schedule == 'full-precision'"]) in (0, 4)
    assert capsys.readouterr().err.count("note: 11 rows give a run again") == 1
    assert out.exists()


def test_different_results_of_one_run_end_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, loss in (("a", 3.0), ("b", 3.25)):
        runs.write(runs.table([row("same", loss=loss)]), tmp_path / f"{name}.parquet")
    assert main(["runs", str(tmp_path)]) == 3
    assert "run_id 'same' is already taken by another run: loss is 3.0 there and 3.25 here" in capsys.readouterr().err
