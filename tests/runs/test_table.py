"""The runs table: its pinned schema, its files, its checks and its digest."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qatplan import runs
from qatplan.errors import DataError, QatplanWarning

PINNED = """
run_id: string not null, parent_id: string, sweep_id: string, code_version: string, corpus: string,
corpus_digest: string, n_total: int64 not null, n_embedding: int64, n_nonembedding: int64, width: int32, layers: int32,
d_total: int64 not null, d_fp: int64 not null, d_qat: int64 not null, bits: double, activation_bits: double,
group_size: int32, embedding_bits: double, quantizer: string, granularity: string,
activation_quantizer: string, activation_granularity: string, post_training: string, post_training_settings: string,
schedule: string, seed: int64, learning_rate: double,
qat_learning_rate: double, optimizer_state: string, optimizer: string,
update: string, transition_rate: double, rewarmup_tokens: int64, cooldown: double, qat_decay: double,
batch_tokens: int32,
sequence: int32, scale_learning_rate: double, loss: double, loss_se: double, bits_per_byte: double,
curve: list<item: struct<tokens: int64, loss: float>>,
transitions: list<item: struct<tokens: int64, rate: float, target: float>>,
status: string not null, trunk_id: string, epochs: double,
seconds: double, tokens_per_second: double, device: string, backend: string, precision: string, threads: int32,
torch_version: string, finished_at: string
"""


def row(number: int = 0, **changes: Any) -> dict[str, Any]:
    """A sound quantized run, numbered, with `changes`; a change to None makes the field null."""
    base = {
        "run_id": f"run-{number}",
        "n_total": 1000 + number,
        "n_embedding": 200,
        "n_nonembedding": 800 + number,
        "d_total": 100,
        "d_fp": 60,
        "d_qat": 40,
        "bits": 4.0,
        "schedule": "classic",
        "seed": number % 2,
        "loss": 3.0 + number / 7,
        "loss_se": 0.01,
        "curve": [{"tokens": 50, "loss": 4.0}, {"tokens": 100, "loss": 3.5}],
        "status": "finished",
        "seconds": 1.5 * number,
        "finished_at": f"2025-01-01T00:00:{number:02d}Z",
    }
    return {**base, **changes}


FULL_PRECISION = {"bits": None, "d_fp": 100, "d_qat": 0, "schedule": "full-precision"}


def unchecked(rows: list[dict[str, Any]]) -> pa.Table:
    """A table of the schema whose values nobody has judged."""
    return pa.Table.from_arrays(
        [pa.array([r.get(f.name) for r in rows], f.type) for f in runs.SCHEMA], schema=runs.SCHEMA
    )


def test_the_schema_is_pinned() -> None:
    assert ", ".join(f"{f.name}: {f.type}{'' if f.nullable else ' not null'}" for f in runs.SCHEMA) == " ".join(
        PINNED.split()
    )
    assert sorted(runs.MEASURED) == ["finished_at", "seconds", "tokens_per_second"]
    assert all(field.meaning for field in runs.FIELDS)


def test_parquet_round_trip_keeps_everything(tmp_path: Path) -> None:
    table = runs.table([row(0), row(1, **FULL_PRECISION), row(2, loss=None, status="diverged"), row(3, curve=[])])
    runs.write(table, tmp_path / "a.parquet")
    assert runs.read(tmp_path / "a.parquet").equals(table)
    assert runs.read(tmp_path / "a.parquet").schema.equals(runs.SCHEMA)


def test_the_stored_types_are_those_of_the_schema(tmp_path: Path) -> None:
    runs.write(runs.table([row()]), tmp_path / "a.parquet")
    stored = pq.read_schema(tmp_path / "a.parquet")
    assert stored.names == runs.SCHEMA.names
    for field in runs.SCHEMA:
        if field.name != "curve":
            assert stored.field(field.name).type == field.type
            assert stored.field(field.name).nullable == field.nullable


def test_the_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    table = runs.table([row(i) for i in range(5)])
    runs.write(table, tmp_path / "a.parquet")
    runs.write(pa.concat_tables([table.slice(0, 2), table.slice(2)]), tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_a_table_of_another_schema_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"runs\.SCHEMA"):
        runs.write(pa.table({"run_id": ["a"]}), tmp_path / "a.parquet")
    assert os.listdir(tmp_path) == []


def test_no_flipped_bit_is_read_as_data(tmp_path: Path) -> None:
    table = runs.table([row(i) for i in range(20)])
    path = tmp_path / "a.parquet"
    runs.write(table, path)
    sound = path.read_bytes()
    draw = random.Random(0)
    refused = 0
    for _ in range(600):
        position, bit = draw.randrange(len(sound)), draw.randrange(8)
        damaged = bytearray(sound)
        damaged[position] ^= 1 << bit
        path.write_bytes(damaged)
        try:
            read = runs.load(path)
        except DataError:
            refused += 1
        else:
            # Some bits of a Parquet file carry nothing (reserved ones, hints): then the data must be the same.
            assert read.equals(table), f"bit {bit} of byte {position} changed the data silently"
    assert refused > 300


def test_a_flipped_data_bit_is_caught_by_the_page_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    runs.write(runs.table([row(i, corpus="x" * 50) for i in range(50)]), path)
    column = pq.read_metadata(path).row_group(0).column(runs.SCHEMA.names.index("run_id"))
    damaged = bytearray(path.read_bytes())
    damaged[column.data_page_offset + column.total_compressed_size - 3] ^= 4
    path.write_bytes(damaged)
    with pytest.raises(DataError, match="could not verify page integrity"):
        runs.load(path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    runs.write(runs.table([row()]), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="damaged or not a Parquet file"):
        runs.read(path)


def test_folders_are_read_by_file_name_and_runs_comes_first(tmp_path: Path) -> None:
    for name, number in (("b", 1), ("a", 0)):
        runs.write(runs.table([row(number)]), tmp_path / "runs" / f"{name}.parquet")
    assert runs.read(tmp_path).column("run_id").to_pylist() == ["run-0", "run-1"]
    runs.write(runs.table([row(0), row(1)]), tmp_path / "all.parquet")
    assert runs.read(tmp_path).num_rows == 2
    assert runs.read([tmp_path / "all.parquet"]).equals(runs.read(tmp_path / "runs").combine_chunks())


def test_paths_without_runs_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no runs"):
        runs.read(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        runs.read(tmp_path / "nothing")
    with pytest.raises(DataError, match="No runs were named"):
        runs.read([])


CIRCUMSTANCES = {
    "sweep_id": "another",
    "seconds": 9.0,
    "tokens_per_second": 1.0,
    "finished_at": "2026-01-01T00:00:00Z",
    "device": "cuda",
    "threads": 7,
    "torch_version": "2.12",
    "curve": [{"tokens": 100, "loss": 3.5}],
    "transitions": [{"tokens": 100, "rate": 0.1, "target": 0.1}],
}


def test_a_run_of_two_sweeps_is_kept_once_with_one_note(tmp_path: Path) -> None:
    runs.write(runs.table([row(0), row(1), row(2)]), tmp_path / "a.parquet")
    runs.write(runs.table([row(3), row(2, **CIRCUMSTANCES), row(1, **CIRCUMSTANCES)]), tmp_path / "b.parquet")
    with pytest.warns(QatplanWarning) as noted:
        table = runs.read(tmp_path)
    assert table.equals(runs.table([row(0), row(1), row(2), row(3)]))
    first = f"row 2 of {tmp_path / 'b.parquet'} repeats row 3 of {tmp_path / 'a.parquet'}"
    assert [str(warning.message) for warning in noted] == [
        "2 rows give a run again, equal in all but sweep, time, machine and curves; each run is kept once, as first "
        f"given ({first})."
    ]
    found = runs.inspect([tmp_path / "b.parquet", tmp_path / "a.parquet"])
    assert found.table.column("run_id").to_pylist() == ["run-3", "run-2", "run-1", "run-0"]
    assert found.table.column("device").to_pylist() == [None, "cuda", "cuda", None]
    assert len(found.notes) == 1
    assert found.problems == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": 3.5}, f"loss is {3.0 + 1 / 7!r} there and 3.5 here"),
        ({"loss": None, "status": "diverged"}, f"loss is {3.0 + 1 / 7!r} there and null here"),
        ({"bits": 3.0, "loss_se": 0.5}, "bits is 4.0 there and 3.0 here"),
        ({"corpus": "x"}, "corpus is null there and 'x' here"),
    ],
)
def test_different_results_under_one_name_are_refused_with_both_places(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    runs.write(runs.table([row(0), row(1)]), tmp_path / "a.parquet")
    runs.write(runs.table([row(0), row(2), row(1, **changes)]), tmp_path / "b.parquet")
    with pytest.raises(DataError) as caught:
        runs.read(tmp_path)
    first, second = tmp_path / "a.parquet", tmp_path / "b.parquet"
    assert str(caught.value) == (
        f"Row 3 of {second}: run_id 'run-1' is already taken by another run: {message} (row 2 of {first})."
    )


def test_a_diverged_run_whose_curve_ends_in_nan_is_its_own_copy(tmp_path: Path) -> None:
    diverged = row(1, loss=None, status="diverged", bits=None, d_fp=100, d_qat=0, schedule=None, loss_se=None)
    runs.write(runs.table([diverged]), tmp_path / "a.parquet")
    again = [diverged | {"curve": [{"tokens": 50, "loss": float("nan")}]}, *[diverged] * 2]
    runs.write(unchecked(again), tmp_path / "b.parquet")
    found = runs.inspect(tmp_path)
    assert (found.table.num_rows, found.problems) == (1, [])
    assert found.notes[0].startswith("3 rows give a run again")


def test_a_table_of_python_is_judged_like_a_file() -> None:
    table = runs.table([row(0), row(1)])
    with pytest.warns(QatplanWarning, match=r"1 row gives a run again, .* \(row 3 repeats row 1\)"):
        assert runs.sound(pa.concat_tables([table, runs.table([row(0)])])).equals(table)
    with pytest.raises(
        DataError, match=r"Row 3: run_id 'run-0' is already taken by another run: loss is 3\.0 there and"
    ):
        runs.sound(pa.concat_tables([table, runs.table([row(0, loss=2.0)])]))
    with pytest.raises(DataError, match=r"Row 2: run_id 'run-0' is given twice, for the same run\."):
        runs.table([row(0), row(0)])
    with pytest.raises(DataError, match="the table cannot be read: "):
        runs.sound(object())
    frame = table.to_pandas()
    assert runs.digest(runs.sound(frame)) == runs.digest(table)


def test_inspect_lists_every_problem_with_its_file(tmp_path: Path) -> None:
    runs.write(runs.table([row(0)]), tmp_path / "a.parquet")
    runs.write(unchecked([row(1), row(2, loss=-1.0), row(3, d_qat=41)]), tmp_path / "b.parquet")
    table, problems, notes = runs.inspect(tmp_path)
    assert notes == []
    assert table.num_rows == 4
    assert [(p.file.name, p.row, p.field) for p in problems] == [("b.parquet", 2, "loss"), ("b.parquet", 3, "d_total")]
    with pytest.raises(DataError, match=r"Row 2 of .*b.parquet: loss is -1.0; it must be more than 0. \(1 more"):
        runs.read(tmp_path)


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"loss": float("nan")}, "loss", "loss is nan; it must be finite, or null where the run diverged."),
        ({"loss": float("inf")}, "loss", "loss is inf; it must be finite"),
        ({"loss": 0.0}, "loss", "loss is 0.0; it must be more than 0."),
        ({"loss": None}, "loss", "loss is missing although the run is finished."),
        ({"status": "diverged"}, "loss", "loss must be null in a diverged run."),
        ({"status": "crashed"}, "status", "status must be one of finished, diverged."),
        ({"status": None}, "status", "status is missing; every run needs it."),
        ({"run_id": ""}, "run_id", "run_id is empty"),
        ({"run_id": None}, "run_id", "run_id is missing"),
        ({"n_total": 0, "n_embedding": None}, "n_total", "n_total is 0; it must be 1 or more."),
        ({"n_embedding": 201}, "n_total", "n_total is not n_embedding + n_nonembedding."),
        ({"d_fp": -1}, "d_fp", "d_fp is -1; it must be 0 or more."),
        ({"d_qat": 41}, "d_total", "d_total is not d_fp + d_qat."),
        ({"d_fp": 2**63 - 1, "d_qat": 2**63 - 1}, "d_total", "d_total is not d_fp + d_qat."),
        ({"bits": None}, "bits", "bits is null, which is full precision, yet d_qat is more than 0"),
        ({"bits": 16.0, "d_fp": 100, "d_qat": 0}, "bits", "bits is 16 or more, which is full precision"),
        ({"bits": 32.0}, "bits", "bits is 16 or more, which is full precision"),
        ({"bits": 16.0, "quantizer": "paretoq"}, "quantizer", "bits is 16, a second phase in full precision, yet"),
        ({"bits": 0.0}, "bits", "bits is 0.0; it must be more than 0."),
        ({"schedule": "post-training"}, "schedule", "schedule is post-training, yet d_qat is more than 0."),
        ({**FULL_PRECISION, "schedule": "post-training"}, "schedule", "schedule is post-training, yet bits is null."),
        ({"schedule": "full-precision"}, "schedule", "schedule is full-precision, yet bits is set."),
        ({"seconds": float("nan")}, "seconds", "seconds is nan; it must be finite, or null where unknown."),
        ({"group_size": 0}, "group_size", "group_size is 0; it must be 1 or more."),
    ],
)
def test_unusable_rows_are_named(changes: dict[str, Any], field: str, message: str) -> None:
    problems = runs.validate(unchecked([row(0), row(1, **changes), row(2)]))
    assert (2, field) in [(p.row, p.field) for p in problems]
    assert {p.row for p in problems} == {2}
    assert any(p.field == field and p.sentence.startswith(message) for p in problems)


def test_sound_rows_have_no_problems() -> None:
    rounded = {"d_fp": 100, "d_qat": 0, "schedule": "post-training"}
    free_text = {"schedule": "their own name"}
    rows = [row(0), row(1, **FULL_PRECISION), row(2, **rounded), row(3, **free_text), row(4, n_embedding=None)]
    rows.append(row(5, bits=16.0))
    assert runs.validate(unchecked(rows)) == []


def test_table_names_the_row_and_field() -> None:
    with pytest.raises(DataError, match=r"Row 2: 'bit' is no field of a run \(did you mean 'bits'\?\)"):
        runs.table([row(0), {"bit": 4}])
    with pytest.raises(DataError, match=r"Row 2: n_total is 'many', not a value of type int64"):
        runs.table([row(0), row(1, n_total="many")])
    with pytest.raises(DataError, match="Row 2: n_total is 9223372036854775808, not a value of type int64"):
        runs.table([row(0), row(1, n_total=2**63)])
    with pytest.raises(DataError, match=r"Row 1: loss is -1\.0") as caught:
        runs.table([row(0, loss=-1.0)])
    assert [p.field for p in caught.value.evidence] == ["loss"]


def test_csv_that_carries_our_names_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("n_params,d_total,bits,d_qat,loss\n1000000,2e9,,,3.1\n2000000,4e9,4,1e9,2.9\n3000000,4e9,2,1e9,\n")
    table = runs.read(path)
    assert table.column("n_total").to_pylist() == [10**6, 2 * 10**6, 3 * 10**6]
    assert table.column("d_qat").to_pylist() == [0, 10**9, 10**9]
    assert table.column("d_fp").to_pylist() == [2 * 10**9, 3 * 10**9, 3 * 10**9]
    assert table.column("status").to_pylist() == ["finished", "finished", "diverged"]
    assert len(set(table.column("run_id").to_pylist())) == 3
    assert runs.read(path).equals(table)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n_total,d_total,bit,loss\n1,1,4,3\n", r"column 'bit' .*did you mean 'bits'"),
        ("n_total,n_params,d_total,loss\n1,1,1,3\n", "'n_total' more than once"),
        ("n_total,d_total,loss\n1,1.5,3\n", "row 1 of .*d_total is 1.5, which is not a whole number"),
        ("n_total,d_total,loss\n1,1,3\n1,x,3\n", "row 2 of .*d_total is 'x'"),
        ("n_total,d_total,loss\n9223372036854775808,1,3\n", "row 1 of .*n_total is"),
        ("n_total,d_total,bits,loss\n1,1,4,3\n", "Row 1 of .*d_fp is missing"),
        ("run_id,n_total,d_total,loss\na,1,1,3\na,1,1,4\n", "another run: loss is 3.0 there and 4.0 here .row 1 of"),
        ("n_total,d_total,loss\n1,2\n", "cannot be read as CSV"),
    ],
)
def test_unusable_csv_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        runs.read(path)


def test_columns_of_pandas_are_read_by_their_values() -> None:
    frame = runs.table([row(0), row(1)]).to_pandas()
    frame["schedule"] = frame["schedule"].astype("category")
    frame["group_size"] = [float("nan"), 32.0]
    table = runs.sound(frame)
    assert table.column("schedule").to_pylist() == ["classic"] * 2
    assert table.column("group_size").to_pylist() == [None, 32]
    with pytest.raises(DataError, match=r"row 2 of the table: group_size is 1\.5, which is not a whole number\."):
        runs.sound(frame.assign(group_size=[1.0, 1.5]))
    with pytest.raises(DataError, match="column curve of the table is string, which is not a value of type list"):
        runs.sound(pa.table({"run_id": pa.array([], pa.string()), "curve": pa.array([], pa.string())}))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.csv does not exist\."):
        runs.load(tmp_path / "a.csv")
    (tmp_path / "b.parquet").mkdir()
    with pytest.raises(DataError, match=r"b\.parquet cannot be read: Is a directory\."):
        runs.load(tmp_path / "b.parquet")


def test_digest_ignores_order_and_clock_and_nothing_else() -> None:
    table = runs.table([row(i) for i in range(6)])
    digest = runs.digest(table)
    assert digest == runs.digest(table.take([5, 3, 1, 0, 2, 4]))
    assert digest == runs.digest(pa.concat_tables([table.slice(3), table.slice(0, 3)]))
    assert digest == runs.digest(table.select(table.column_names[::-1]))
    assert digest == runs.digest(runs.table([row(i, seconds=9.0, finished_at=None) for i in range(6)]))
    assert digest != runs.digest(table.slice(1))
    for changes in (
        {"loss": np.nextafter(3.0, 4.0)},
        {"corpus": ""},
        {"bits": None, **FULL_PRECISION},
        {"curve": None},
    ):
        assert digest != runs.digest(runs.table([row(0, **changes), *(row(i) for i in range(1, 6))]))


def test_digest_tells_null_from_zero_and_neighbouring_text_apart() -> None:
    pairs = [("ab", "c"), ("a", "bc"), (None, "abc"), ("", "abc"), ("abc", None)]
    digests = {runs.digest(runs.table([row(0, corpus=a), row(1, corpus=b)])) for a, b in pairs}
    assert len(digests) == len(pairs)


def test_digest_of_repeated_rows_ignores_their_order() -> None:
    twice = unchecked([row(0), row(0, loss=2.0), row(1)])
    assert runs.digest(twice) == runs.digest(twice.take([2, 1, 0]))


def test_columns_are_float_arrays_with_nan_for_null() -> None:
    table = runs.table([row(0), row(1, **FULL_PRECISION)])
    got = runs.columns(table, ["bits", "n_params", "seed"])
    assert list(got) == ["bits", "n_total", "seed"]
    np.testing.assert_array_equal(got["bits"], [4.0, np.nan])
    np.testing.assert_array_equal(got["n_total"], [1000.0, 1001.0])
    assert all(values.dtype == np.float64 for values in got.values())
    with pytest.raises(DataError, match="'corpus' is no numeric field"):
        runs.columns(table, ["corpus"])
    with pytest.raises(DataError, match=r"'bit' is no numeric field of a run \(did you mean 'bits'\?\)"):
        runs.columns(table, ["bit"])
