"""`qatplan import FILE` alone: the map that its columns suggest, written or to be confirmed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from qatplan import runs
from qatplan.cli.app import main

ISOFLOP = "run_name,N,flops,val_loss,train_loss\n" + "".join(
    f"r{n}-{c},{n * 10**6},{c}e16,{3 + 1 / n + 1 / c:.4f},2.9\n" for n in (1, 2, 4) for c in (1, 3)
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_table_that_leaves_nothing_open_is_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"a{i},{n},{d},{6 * n * d * 1.04},{lr},{3.5 - i / 10}" for i, (n, d, lr) in
            enumerate([(10**6, 10**8, 1e-3), (2 * 10**6, 10**8, 1e-3), (4 * 10**6, 2 * 10**8, 1e-3)])]  # fmt: skip
    (here / "theirs.csv").write_text("name,num_params,train_tokens,flops,lr,eval/loss\n" + "\n".join(rows))
    assert main(["import", "theirs.csv"]) == 0
    text = capsys.readouterr().out
    assert "3 of 3 rows written to theirs.runs.parquet" in text
    assert "num_params runs from 1e+06 to 4e+06" in text
    assert "flops is 6 N D within 10 % in 3 of 3 rows; its median is 1.04 times that" in text
    table = runs.read(here / "theirs.runs.parquet")
    assert table.column("d_total").to_pylist() == [10**8, 10**8, 2 * 10**8]
    assert table.column("loss").to_pylist() == [3.5, 3.4, 3.3]
    assert table.column("learning_rate").to_pylist() == [1e-3] * 3


def test_an_isoflop_table_is_confirmed_by_the_command_that_is_printed(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "iso.csv").write_text(ISOFLOP)
    assert main(["import", "iso.csv", "--json"]) == 2
    printed = capsys.readouterr()
    shown = json.loads(printed.out)
    assert shown["proposal"]["questions"] == ["d_total: no column has tokens; does flops count 6 N D?"]
    assert "qatplan: iso.csv leaves 1 thing open, and nothing was written" in printed.err
    assert [path.name for path in here.iterdir()] == ["iso.csv"]
    assert main(shlex.split(shown["command"])[1:]) == 0
    table = runs.read(here / "iso.runs.parquet")
    assert table.num_rows == 6
    assert table.column("d_total").to_pylist()[0] == round(1e16 / 6e6)
    assert table.column("run_id").to_pylist()[0] == "r1-1"


def test_what_only_a_person_knows_is_asked(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{n},{b},{10**9},{3 + 1 / n},{3.1}\n" for n in (30, 60) for b in (2, 4, 16))
    (here / "a.csv").write_text("params_M,w_bits,tokens,val_loss,test_loss\n" + rows)
    assert main(["import", "a.csv"]) == 2
    text = " ".join(capsys.readouterr().out.split())
    assert "loss: it could be any of val_loss, test_loss" in text
    assert "fraction: some rows are quantized; is 1 right, quantized from the start?" in text
    assert "params_M is in units of 1e+06 by its name, so it is taken as params_M * 1e+06" in text
    assert "qatplan import a.csv --out a.runs.parquet --map" in text
    (here / "d.csv").write_text("N,tokens,bits,QAT %,loss\n1000000,100000000,4,0.2,3.0\n")
    assert main(["import", "d.csv"]) == 2
    text = " ".join(capsys.readouterr().out.split())
    assert "fraction: some rows are quantized; is it QAT %?" in text
    assert "--map 'fraction=QAT %'" in text
    (here / "b.csv").write_text("n_nonemb,tokens,loss\n1000000,100000000,3.0\n")
    assert main(["import", "b.csv"]) == 2
    assert "no column counts embeddings; is n_nonemb all there is to count?" in " ".join(
        capsys.readouterr().out.split()
    )
    (here / "c.csv").write_text("foo,bar\n1,2\n")
    assert main(["import", "c.csv"]) == 2
    assert "n_params: no column looks like it" in capsys.readouterr().out


def test_a_dry_run_shows_rows_and_writes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "a.csv").write_text("N,tokens,val_loss\n1000000,100000000,3.25\n2000000,100000000,3.0\n")
    assert main(["import", "a.csv", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("First rows\n")
    assert "2 of 2 rows can be used" in text
    assert [path.name for path in here.iterdir()] == ["a.csv"]


def test_a_map_that_most_rows_contradict_is_not_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "a.csv").write_text("N,tokens,val_loss\n1000000,100000000,3.25\n2000000,100000000,\n3000000,100000000,\n")
    assert main(["import", "a.csv"]) == 3
    assert "Most rows of a.csv cannot be used as its columns suggest" in capsys.readouterr().err
    assert [path.name for path in here.iterdir()] == ["a.csv"]


def test_a_folder_of_json_is_at_a_table_in_one_command(here: Path) -> None:
    (here / "logs").mkdir()
    for i in range(3):
        run = {"config": {"n_params": 10**6 * (i + 1), "seed": i}, "tokens": 10**8, "val_loss": 3.0 - i / 10}
        (here / "logs" / f"run{i}.json").write_text(json.dumps(run))
    assert main(["import", "logs"]) == 0
    assert runs.read(here / "logs.runs.parquet").num_rows == 3


def test_a_table_too_large_says_how_to_allow_more(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "a.csv").write_text("N,tokens,val_loss\n" + "1000000,100000000,3.25\n" * 2000)
    assert main(["import", "a.csv", "--limit", "1MiB"]) == 3
    assert "--limit 2MiB." in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x.json", "x.jsonl.gz", "x.csv.gz", "x.xlsx"])
def test_a_foreign_table_given_as_runs_names_the_import(
    here: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (here / name).write_text("[]")
    assert main(["runs", name]) == 3
    assert f"{name} is no runs table; `qatplan import {name}` makes one of it." in capsys.readouterr().err


def test_missing_fields_come_at_once_with_the_columns(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "a.csv").write_text("foo,bar/x,seed\n1,2,0\n")
    assert main(["import", "a.csv", "--map", "seed=seed"]) == 2
    error = capsys.readouterr().err
    for part in ("n_params", "d_total", "loss", "its columns are foo, bar/x, seed"):
        assert part in error
    assert main(["import", "a.csv", "--map", "loss=bar/x*2"]) == 2
    assert "no column 'bar'; quote one whose name has signs: `bar/x`" in capsys.readouterr().err


def test_a_finished_status_may_be_ok(here: Path) -> None:
    (here / "a.csv").write_text("N,tokens,val_loss,status\n1000000,100000000,3.25,ok\n")
    assert main(["import", "a.csv"]) == 0
    assert runs.read(here / "a.runs.parquet").column("status").to_pylist() == ["finished"]


def test_grouped_settings_are_known_by_their_last_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    header = "run,model.n_params,data.total_tokens,quant/bits,quant/qat_fraction,optim.lr,eval/loss\n"
    rows = [f"r{i},{n}000000,100000000,{b},0.2,0.001,{3 + i / 10}\n" for i, (n, b) in enumerate([(1, 4), (2, 16)])]
    Path("a.csv").write_text(header + "".join(rows))
    assert main(["import", "a.csv", "--json"]) == 0
    mapping = json.loads(capsys.readouterr().out)["mapping"]
    assert mapping == {
        "run_id": "run", "n_total": "model.n_params", "d_total": "data.total_tokens", "bits": "quant/bits",
        "fraction": "quant/qat_fraction", "learning_rate": "optim.lr", "loss": "eval/loss",
    }  # fmt: skip
