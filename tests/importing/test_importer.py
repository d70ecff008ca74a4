"""Import as a whole: mappings, trackers, and every suspicious row named."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qatplan import runs
from qatplan.errors import DataError, UsageError
from qatplan.importing.importer import Imported, import_runs

QUEST = Path(__file__).parents[3] / "shared" / "data" / "external" / "quest_runs.csv"
MAPPING = {"n_params": "n", "d_total": "tokens", "bits": "bits", "loss": "loss"}


def row(**changes: Any) -> dict[str, Any]:
    return {"n": 10**6, "tokens": 10**8, "bits": 4, "loss": 3.25, "seed": 0, **changes}


def imported(tmp_path: Path, rows: list[dict[str, Any]], **options: Any) -> Imported:
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps(rows))
    mapping = {**MAPPING, **options.pop("mapping", {})}
    constants = options.pop("constants", {"fraction": "0.25"})
    return import_runs(path, mapping, constants, **options)


def reasons(result: Imported) -> dict[int, str]:
    """All reasons against each rejected row."""
    message: dict[int, str] = {}
    for objection in result.rejected:
        message[objection.row] = "; ".join(filter(None, (message.get(objection.row), objection.reason)))
    return message


def test_a_plain_table(tmp_path: Path) -> None:
    result = imported(tmp_path, [row(), row(bits=16, loss=3.0), row(bits=2, loss=3.5, note="x")])
    assert result.rejected == ()
    table = result.table
    assert table.schema.equals(runs.SCHEMA)
    assert runs.validate(table) == []
    assert table.column("bits").to_pylist() == [4.0, None, 2.0]
    assert table.column("d_qat").to_pylist() == [25_000_000, 0, 25_000_000]
    assert table.column("d_fp").to_pylist() == [75_000_000, 10**8, 75_000_000]
    assert table.column("seed").to_pylist() == [0, 0, 0]
    assert result.unused_columns == ("note",)
    assert result.mapping["d_total"] == "tokens"
    assert result.mapping["fraction"] == "0.25"
    assert "taken by their names: seed=seed" in result.notes
    assert any("full precision and stored as null: 1 rows" in note for note in result.notes)


def test_every_row_is_accounted_for(tmp_path: Path) -> None:
    result = imported(tmp_path, [row(), row(loss=-1), row(loss="x"), row(seed=1), row(n=None)])
    assert result.rows_read == 5
    assert result.table.num_rows + len({o.row for o in result.rejected}) == 5


def test_the_same_source_gives_the_same_run_ids(tmp_path: Path) -> None:
    first, second = (imported(tmp_path, [row(), row(seed=1)]).table for _ in range(2))
    assert first.equals(second)
    assert len(set(first.column("run_id").to_pylist())) == 2


def test_counts_may_carry_suffixes_and_come_from_formulas(tmp_path: Path) -> None:
    rows = [row(n="30M", flops=1.8e17), row(n="1.5B", flops="9e18")]
    result = imported(tmp_path, rows, mapping={"d_total": "flops/(6*n)"}, constants={"d_fp": "0"})
    assert result.table.column("n_total").to_pylist() == [30_000_000, 1_500_000_000]
    assert result.table.column("d_qat").to_pylist() == [10**9, 10**9]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": 19051825377965379072}, "d_total is 19051825377965379072, beyond 64-bit integers"),
        ({"tokens": 1e19}, "d_total is 10000000000000000000, beyond 64-bit integers"),
        ({"tokens": float("inf")}, "d_total is inf; it must be finite"),
        ({"tokens": float("nan")}, "d_total is missing"),
        ({"loss": 10**400}, "beyond the range of numbers"),
        ({"bits": 16, "wbits_used": "int4"}, "bits is given as 16, which is full precision, but wbits_used says int4"),
        ({"loss": float("nan")}, "loss is NaN; it must be finite"),
        ({"loss": float("inf")}, "loss is inf; it must be finite"),
        ({"loss": "-Infinity"}, "loss is -inf; it must be finite"),
        ({"loss": -3.0}, "loss is -3.0; it must be more than 0"),
        ({"loss": None}, "loss is missing"),
        ({"loss": ""}, "loss is missing"),
        ({"loss": "3,25"}, "loss is '3,25', not a number"),
        ({"loss": True}, "loss is True, not a number"),
        ({"tokens": 1e3 + 0.5}, "d_total is 1000.5; it must be a whole number"),
        ({"tokens": None}, "d_total is missing"),
        ({"n": 0}, "n_total is 0; it must be 1 or more"),
        ({"n": -5}, "n_total is -5; it must be 1 or more"),
        ({"bits": "often"}, "bits is 'often', which names no number of bits"),
        ({"bits": 0}, "bits is 0.0; it must be more than 0"),
        (
            {"bits": 16, "w_bits_effective": 4},
            "bits is given as 16, which is full precision, but w_bits_effective says 4",
        ),
        (
            {"bits": 16, "w_quant": "HadamardFP4Quantizer"},
            "but w_quant is HadamardFP4Quantizer; map the bits that were",
        ),
        ({"bits": "bf16", "recipe": "mxfp4"}, "bits is given as bf16, which is full precision, but recipe is mxfp4"),
        ({"bits": 16, "fmt": "fp4"}, "bits is given as 16, which is full precision, but fmt is fp4"),
        (
            {"bits": None, "weight_format": "int4"},
            "no bits are given, which is full precision, but weight_format is int4",
        ),
        ({"n": 50}, "n_total is 50; so few parameters look like another unit"),
        ({"tokens": 100}, "d_total is 100; so few tokens look like another unit"),
        ({"n": 10**3, "tokens": 10**10}, "d_total / n_total is 1e+07 tokens per parameter"),
        ({"tokens": 10**5}, "d_total / n_total is 0.1 tokens per parameter, where the other rows have 100 to 130"),
        ({"loss": 25.8}, "loss is 25.8; more than 13 nats per token looks like a perplexity"),
        (
            {"loss": 3.25 / 0.693147, "seed": 5},
            "loss is 4.68876, 1.44 times that of its twin in row 1: bits among nats?",
        ),
        ({}, "every mapped value is that of row 1: the same run twice"),
        ({"step": 500, "max_steps": 1000, "loss": 3.9}, "an intermediate checkpoint: step is 500 of max_steps 1000"),
    ],
)
def test_suspicious_rows_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    sound = [
        row(),
        row(tokens=120_000_000),
        row(tokens=130_000_000, bits=3),
        row(bits=16, loss=3.0, w_quant="NoQuantizer"),
    ]
    result = imported(tmp_path, [*sound[:3], row(**changes), sound[3]])
    assert set(reasons(result)) == {4}
    assert message in reasons(result)[4]
    assert result.table.num_rows == 4


def test_checkpoints_of_a_named_run_leave_its_end(tmp_path: Path) -> None:
    rows = [row(run="a", step=s, tokens=10**8, loss=4 - s / 1000) for s in (100, 300, 200)] + [row(run="b", step=100)]
    result = imported(tmp_path, rows, mapping={"run_id": "run"})
    assert set(reasons(result)) == {1, 3}
    assert "step is 100, and the same run goes on to 300 in row 2" in reasons(result)[1]
    assert result.table.column("run_id").to_pylist() == ["a", "b"]
    assert result.table.column("loss").to_pylist() == [3.7, 3.25]


def test_checkpoints_are_seen_by_their_tokens_too(tmp_path: Path) -> None:
    rows = [row(run="a", tokens=t, loss=4 - t / 1e9) for t in (10**8, 2 * 10**8)]
    result = imported(tmp_path, rows, mapping={"run_id": "run"})
    assert "d_total is 1e+08, and the same run goes on to 2e+08 in row 2" in reasons(result)[1]
    assert result.table.num_rows == 1


def test_checkpoints_without_a_mapped_name(tmp_path: Path) -> None:
    rows = [row(exp_name="x", step=s, loss=4 - s / 1000) for s in (100, 200)]
    rows += [row(exp_name="x", n=2 * 10**6, step=100), row(exp_name="y", tokens=2 * 10**8, step=100)]
    assert set(reasons(imported(tmp_path, rows))) == {1}


def test_one_name_for_runs_of_several_budgets_is_no_checkpoint(tmp_path: Path) -> None:
    rows = [row(name="1M-4bit", tokens=t) for t in (10**8, 2 * 10**8)]
    assert imported(tmp_path, rows).rejected == ()


def test_a_run_given_twice_is_written_once(tmp_path: Path) -> None:
    result = imported(tmp_path, [row(id="a"), row(id="a"), row(id="a", loss=3.5)], mapping={"run_id": "id"})
    assert reasons(result) == {
        2: "the run 'a' is already in row 1",
        3: "the run 'a' is already in row 1, with another loss",
    }


def test_repeats_are_noted_not_refused(tmp_path: Path) -> None:
    result = imported(tmp_path, [row(loss=3.25), row(loss=3.26), row(seed=1)])
    assert result.rejected == ()
    assert any("(rows 1, 2)" in note and "map it" in note for note in result.notes)
    refused = imported(tmp_path, [row(loss=3.25), row(loss=-1), row(seed=1)])
    assert not any("map it" in note for note in refused.notes)


def test_a_unit_shared_by_all_is_refused_with_the_remedy(tmp_path: Path) -> None:
    rows = [row(n=n, tokens=n * 2 * 10**7, seed=i) for i, n in enumerate((30, 50))]
    result = imported(tmp_path, rows)
    assert result.table.num_rows == 0
    assert "--map n_total=COLUMN*1e6" in reasons(result)[1]
    assert imported(tmp_path, rows, mapping={"n_params": "n*1e6"}).rejected == ()


def test_suspects_can_be_kept(tmp_path: Path) -> None:
    rows = [row(), row(n=50), row(loss=20.0, seed=3)]
    result = imported(tmp_path, rows, keep_suspect=True)
    assert result.rejected == ()
    assert {o.row for o in result.suspect} == {2, 3}
    assert result.table.num_rows == 3
    twice = imported(tmp_path, [row(id="a"), row(id="a")], mapping={"run_id": "id"}, keep_suspect=True)
    assert set(reasons(twice)) == {2}


def test_diverged_runs_are_rows_when_asked_for(tmp_path: Path) -> None:
    rows = [row(), row(loss=float("nan"), seed=1), row(loss=float("inf"), seed=2), row(loss=None, seed=3)]
    result = imported(tmp_path, rows, diverged=True)
    assert result.table.column("status").to_pylist() == ["finished", "diverged", "diverged"]
    assert result.table.column("loss").to_pylist() == [3.25, None, None]
    assert reasons(result) == {4: "loss is missing"}


def test_a_status_that_says_diverged_is_believed(tmp_path: Path) -> None:
    rows = [row(state="Finished"), row(state="diverged", loss=float("nan")), row(state="crashed", seed=1)]
    result = imported(tmp_path, rows, mapping={"status": "state"})
    assert result.table.column("status").to_pylist() == ["finished", "diverged"]
    assert reasons(result) == {3: "status is 'crashed': the run has not finished, so its loss is not a final one"}


def test_an_unknown_split_is_named_with_the_remedy(tmp_path: Path) -> None:
    result = imported(tmp_path, [row(), row(bits=None)], constants={})
    assert set(reasons(result)) == {1}
    assert "--const fraction=1" in reasons(result)[1]


def test_broken_rows_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("n_params,d_total,loss\n1000000,100000000,3.0\n1000000,100000000\n")
    result = import_runs(path)
    assert reasons(result) == {2: "it has 2 cells where the header has 3"}
    assert result.table.num_rows == 1


@pytest.mark.parametrize(
    ("mapping", "constants", "message"),
    [
        ({"n_param": "n"}, {}, r"'n_param' is no field of a run \(did you mean 'n_params'\?\)"),
        ({"curve": "n"}, {}, "'curve' is no field of a run"),
        ({"n_params": "m"}, {}, "the source has no column 'm'"),
        ({"n_params": "n", "n_total": "n"}, {}, "n_params and n_total are the same field"),
        ({"n_params": "n"}, {"n_total": "5"}, "n_total is given twice"),
        ({"n_params": "n"}, {"d_total": "4GB"}, "--const d_total=4GB: d_total is '4GB', not a number"),
        ({"n_params": "n"}, {"fraction": "20"}, "a fraction lies between 0 and 1"),
        ({}, {}, "Nothing is mapped to n_params; add --map n_params=COLUMN"),
        ({"n_params": "n"}, {}, "Nothing is mapped to d_total; --map d_total=tokens looks right"),
        ({"n_nonembedding": "n"}, {}, "say so with --map n_params=n --map n_nonembedding=n"),
    ],
)
def test_mappings_that_cannot_be(
    tmp_path: Path, mapping: dict[str, str], constants: dict[str, str], message: str
) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([row()]))
    with pytest.raises(UsageError, match=message):
        import_runs(path, mapping, constants)


def test_rival_columns_are_for_the_person_to_choose(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"n_params": 10**6, "d_total": 10**8, "eval_loss": 3.0, "val_loss": 3.1}]))
    with pytest.raises(UsageError, match="loss could be any of eval_loss, val_loss; choose with --map loss=COLUMN"):
        import_runs(path)
    assert import_runs(path, {"loss": "eval_loss"}).table.column("loss").to_pylist() == [3.0]


def test_rivals_that_nothing_needs_are_noted_until_one_is_chosen(tmp_path: Path) -> None:
    rows = [row(n_embd=64, d_model=64, lr=float("nan"))]
    result = imported(tmp_path, rows)
    assert "width is not taken, since it could be any of n_embd, d_model" in result.notes
    assert "not used, but looks usable: --map learning_rate=lr" in result.notes
    chosen = imported(tmp_path, rows, mapping={"width": "d_model", "learning_rate": "lr"})
    assert chosen.table.column("width").to_pylist() == [64]
    assert chosen.table.column("learning_rate").to_pylist() == [None]
    assert not any("width" in note or "looks usable" in note for note in chosen.notes)


def test_many_groups_of_repeats_are_cut(tmp_path: Path) -> None:
    rows = [row(seed=seed, loss=3 + seed / 10 + twin / 1000) for seed in range(6) for twin in (0, 1)]
    assert any("6 groups of rows" in note and "9, 10; ...)" in note for note in imported(tmp_path, rows).notes)


def test_a_bare_loss_beside_a_validation_loss_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"n_params": 10**6, "d_total": 10**8, "loss": 2.9, "val_loss": 3.1}]))
    with pytest.raises(UsageError, match="loss could be any of loss, val_loss"):
        import_runs(path)
    path.write_text(json.dumps([{"n_params": 10**6, "d_total": 10**8, "loss": 2.9}]))
    assert import_runs(path).table.column("loss").to_pylist() == [2.9]


def test_a_wandb_run_table_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "wandb_export.csv"
    header = [
        "Name",
        "State",
        "Notes",
        "User",
        "Tags",
        "Created",
        "Runtime",
        "Sweep",
        "n_params",
        "train_tokens",
        "w_bits",
    ]
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
        writer.writerow([*header, "lr", "seed", "fraction", "_step", "train/loss", "val/loss"])
        for i, (state, loss) in enumerate([("finished", 3.0), ("finished", "NaN"), ("crashed", 3.2), ("running", "")]):
            meta = [f"run-{i}", state, "-", "me", "", "2025-01-01T00:00:00.000Z", "120", ""]
            writer.writerow([*meta, 10**6, 10**8, 4, 1e-3, i, 0.5, 999, 2.9, loss])
    result = import_runs(path)
    assert result.origin == "wandb"
    assert "recognised as a run table of W&B" in result.notes
    assert result.mapping["loss"] == "val/loss"
    assert result.table.column("run_id").to_pylist() == ["run-0"]
    assert result.table.column("seconds").to_pylist() == [120.0]
    assert result.table.column("learning_rate").to_pylist() == [1e-3]
    assert result.table.column("d_qat").to_pylist() == [5 * 10**7]
    assert reasons(result)[2] == "loss is NaN; it must be finite; --diverged records such a run as diverged"
    assert "status is 'crashed'" in reasons(result)[3]
    assert 4 in reasons(result)


def test_the_script_of_the_wandb_documentation_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "project.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["", "summary", "config", "name"])
        for i in range(2):
            config = {"n_params": 10**6 * (i + 1), "total_tokens": 10**8, "seed": i}
            writer.writerow([i, {"eval/loss": 3.0 + i, "_step": 10, "_wandb": {"runtime": 5}}, config, f"run-{i}"])
    result = import_runs(path)
    assert result.origin == "wandb"
    assert result.table.column("loss").to_pylist() == [3.0, 4.0]
    assert result.table.column("run_id").to_pylist() == ["run-0", "run-1"]
    assert result.rejected == ()


def test_an_mlflow_run_table_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.csv"
    header = ["run_id", "experiment_id", "status", "artifact_uri", "start_time", "end_time", "metrics.val_loss"]
    header += [
        "metrics.train_loss",
        "params.n_params",
        "params.tokens",
        "params.w_bits",
        "params.seed",
        "params.fraction",
    ]
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["", *header, "tags.mlflow.runName"])
        for i, status in enumerate(("FINISHED", "FAILED", "FINISHED")):
            times = ["2025-01-01 00:00:00+00:00", "2025-01-01 01:00:00+00:00"]
            numbers = [3.0 + i, 2.9, 10**6, 10**8, 4, i, 0.25]
            writer.writerow([i, f"id{i}", "1", status, "mlruns/1", *times, *numbers, f"run-{i}"])
    result = import_runs(path)
    assert result.origin == "mlflow"
    assert result.table.column("run_id").to_pylist() == ["id0", "id2"]
    assert result.table.column("loss").to_pylist() == [3.0, 5.0]
    assert result.table.column("finished_at").to_pylist() == ["2025-01-01 01:00:00+00:00"] * 2
    assert reasons(result) == {2: "status is 'FAILED': the run has not finished, so its loss is not a final one"}


def test_an_exported_table_of_ours_comes_back_whole(tmp_path: Path) -> None:
    table = imported(tmp_path, [row(), row(bits=16, loss=3.0), row(seed=1)]).table
    runs.write(table, tmp_path / "ours.parquet")
    assert import_runs(tmp_path / "ours.parquet").table.equals(table)


@pytest.mark.skipif(not QUEST.exists(), reason="the external runs lie beside the repository, not in it")
class TestRealRuns:
    MAPPING = {  # noqa: RUF012
        "n_params": "N_nonemb",
        "n_nonembedding": "N_nonemb",
        "d_fp": "D_fp",
        "d_qat": "D_qat",
        "quantizer": "w_quant",
    }

    def test_all_rows_come_in_with_the_effective_bits(self) -> None:
        result = import_runs(QUEST, {**self.MAPPING, "bits": "w_bits_effective"})
        assert result.rejected == ()
        table = result.table
        assert table.num_rows == 104
        counts = {b: table.column("bits").to_pylist().count(b) for b in (1.0, 2.0, 3.0, 4.0, 8.0, None)}
        assert counts == {1.0: 15, 2.0: 20, 3.0: 22, 4.0: 34, 8.0: 7, None: 6}
        with QUEST.open() as stream:
            given = list(csv.DictReader(stream))
        assert table.column("loss").to_pylist() == [float(r["loss"]) for r in given]
        assert table.column("d_total").to_pylist() == [int(r["D_tokens"]) for r in given]

    def test_the_logged_bits_are_caught(self) -> None:
        result = import_runs(QUEST, {**self.MAPPING, "bits": "w_bits_logged"})
        assert set(reasons(result)) == {101, 102, 103, 104}
        assert all("w_bits_effective says 4" in reason for reason in reasons(result).values())

    def test_operations_beyond_64_bits_are_caught_and_still_usable_in_a_quotient(self) -> None:
        direct = import_runs(QUEST, {**self.MAPPING, "bits": "w_bits_effective", "rewarmup_tokens": "bops"})
        assert len(reasons(direct)) == 13
        assert all("beyond 64-bit integers" in reason for reason in reasons(direct).values())
        quotient = import_runs(
            QUEST, {**self.MAPPING, "bits": "w_bits_effective", "rewarmup_tokens": "bops / N_nonemb"}
        )
        assert quotient.rejected == ()


def test_nothing_but_a_table_is_imported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        import_runs(tmp_path / "nothing.csv")


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from(["", "NaN", "inf", "16", "fp4", "4", "3.5", "50M", "finished", "x", "1e999", "0"]),
    st.text(max_size=4),
    st.lists(st.integers(), max_size=2),
)
ODD_ROW = st.dictionaries(
    st.sampled_from(["n", "tokens", "bits", "loss", "seed", "step", "max_steps", "run_id", "w_quant", "status"]), CELLS
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(odd=st.lists(ODD_ROW, max_size=6), diverged=st.booleans(), keep=st.booleans())
def test_whatever_the_cells_every_row_is_accounted_for(
    tmp_path: Path, odd: list[dict[str, Any]], diverged: bool, keep: bool
) -> None:
    rows = [row(run_id="first", status="finished"), *({**row(), **changes} for changes in odd)]
    result = imported(tmp_path, rows, diverged=diverged, keep_suspect=keep)
    rejected = {objection.row for objection in result.rejected}
    assert result.table.num_rows + len(rejected) == len(rows)
    assert runs.validate(result.table) == []
    assert all(objection.reason for objection in result.rejected)
