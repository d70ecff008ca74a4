"""Rows from the middle of runs are seen for what they are, and runs of other batches or names are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.foreign import imported, reasons

from qatplan.importing.importer import import_runs

MAPPING = {"n_params": "n", "d_total": "tokens", "loss": "val"}


def row(**changes: Any) -> dict[str, Any]:
    return {"n": 10**6, "tokens": 10**8, "val": 3.25, **changes}


@pytest.mark.parametrize("column", ["step", "steps", "iterations", "global_step", "num_updates"])
@pytest.mark.parametrize("name", [None, "run"])
def test_a_sweep_of_batch_sizes_is_whole(tmp_path: Path, column: str, name: str | None) -> None:
    rows = [row(batch_size=b, **{column: 10**8 // (b * 512)}, val=3.2 + b / 1000) for b in (16, 32, 64, 128, 256)]
    if name:
        rows = [{**each, name: f"b{each['batch_size']}"} for each in rows]
    result = imported(tmp_path, rows, MAPPING)
    assert result.rejected == ()
    assert result.table.num_rows == 5


def test_rows_of_equal_tokens_are_no_checkpoints_of_one_another(tmp_path: Path) -> None:
    rows = [row(step=s, val=3.2 + s / 1e5) for s in (100, 200, 300, 400, 500)]
    assert imported(tmp_path, rows, MAPPING).rejected == ()


@pytest.mark.parametrize("changes", [{"name": "b"}, {"weight_decay": 0.1}, {"optimizer": "muon"}])
def test_equal_losses_of_other_names_or_settings_are_two_runs(tmp_path: Path, changes: dict[str, Any]) -> None:
    rows = [
        row(name="a", weight_decay=0.0, optimizer="adam"),
        row(name="a", weight_decay=0.0, optimizer="adam") | changes,
    ]
    result = imported(tmp_path, rows, MAPPING)
    assert result.rejected == ()
    assert len(set(result.table.column("run_id").to_pylist())) == 2


def test_a_copy_of_a_row_is_one_run(tmp_path: Path) -> None:
    result = imported(tmp_path, [row(name="a", timestamp=1), row(name="a", timestamp=2)], MAPPING)
    assert reasons(result) == {2: "every mapped value is that of row 1: the same run twice"}


@pytest.mark.parametrize(
    ("done", "total"),
    [
        ("train/global_step", "config.max_steps"), ("trainer.iter_num", "trainer.max_iters"), ("epoch", "max_epochs"),
        ("num_updates", "total_num_updates"), ("current_iteration", "iterations"), ("tokens_seen", "total_tokens"),
        ("optimizer/step", "optimizer/total_steps"), ("trainerGlobalStep", "trainerMaxSteps"), ("step", "num_steps"),
        ("consumed_tokens", "target_tokens"), ("state.steps", "args.max_steps"),
    ],
)  # fmt: skip
def test_a_count_below_the_total_beside_it(tmp_path: Path, done: str, total: str) -> None:
    rows = [row(**{done: d, total: 1000}, val=4 - d / 1000, seed=d) for d in (100, 500, 990, 1000)]
    result = imported(tmp_path, rows, {**MAPPING, "seed": "seed"})
    assert set(reasons(result)) == {1, 2}
    assert f"an intermediate checkpoint: {done} is 100 of {total} 1000" in reasons(result)[1]


def test_tokens_seen_are_held_against_the_mapped_tokens(tmp_path: Path) -> None:
    rows = [row(tokens_seen=10**7), row(tokens_seen=10**8, val=3.0)]
    result = imported(tmp_path, rows, MAPPING)
    assert reasons(result) == {1: "an intermediate checkpoint: tokens_seen is 1e+07 of d_total 1e+08"}


@pytest.mark.parametrize("column", ["run_name", "name", "Run"])
def test_one_name_with_growing_tokens_is_one_run(tmp_path: Path, column: str) -> None:
    rows = [
        row(n=n, tokens=t * 10**8, val=4 - t / 10, **{column: name})
        for name, n in (("a", 10**6), ("b", 2 * 10**6))
        for t in (1, 2, 3, 4)
    ]
    result = imported(tmp_path, rows, MAPPING)
    assert set(reasons(result)) == {1, 2, 3, 5, 6, 7}
    assert "d_total is 1e+08, and the same run goes on to 4e+08 in row 4" in reasons(result)[1]


def test_budgets_under_names_of_their_own_are_runs(tmp_path: Path) -> None:
    rows = [row(tokens=t * 10**8, val=4 - t / 10, name=f"run-{t}", steps=t * 1000) for t in (1, 2, 3, 4, 5)]
    assert imported(tmp_path, rows, MAPPING).rejected == ()


@pytest.mark.parametrize("column", ["step", "train_loop/current_step", "trainer.iter"])
def test_an_even_trail_of_steps_needs_no_name(tmp_path: Path, column: str) -> None:
    rows = [row(tokens=t * 10**7, val=4 - t / 100, **{column: t * 100}) for t in range(1, 21)]
    result = imported(tmp_path, rows, MAPPING)
    assert set(reasons(result)) == set(range(1, 20))
    assert f"{column} is 100, and the same run goes on to 2000 in row 20" in reasons(result)[1]


def test_budgets_apart_by_factors_are_no_trail(tmp_path: Path) -> None:
    rows = [row(tokens=2**t * 10**7, val=4 - t / 100, step=2**t * 100) for t in range(6)]
    assert imported(tmp_path, rows, MAPPING).rejected == ()


@pytest.mark.parametrize(
    "column",
    [
        "warmup_steps",
        "step_size",
        "eval_interval_steps",
        "steps_per_second",
        "step_time",
        "val_loss_step",
        "updated_at",
    ],
)
def test_settings_and_speeds_are_no_progress(tmp_path: Path, column: str) -> None:
    rows = [row(tokens=t * 10**8, max_steps=1000, val=4 - t / 10, **{column: t * 100}) for t in (1, 2, 3, 4, 5)]
    assert imported(tmp_path, rows, MAPPING).rejected == ()


def test_one_name_for_all_sizes_is_that_of_the_study(tmp_path: Path) -> None:
    rows = [f"study,{n},{d},{3 + i / 100}" for i, (n, d) in enumerate((n, d) for n in (1, 2) for d in (1, 3, 10))]
    text = "Name,N,tokens,loss\n" + "\n".join(rows)
    (tmp_path / "a.csv").write_text(text)
    made = import_runs(tmp_path / "a.csv", {"n_params": "N * 1000000", "d_total": "tokens * 10000000"})
    assert made.table.num_rows == 6
    # At one size it may well be the name of one run.
    (tmp_path / "b.csv").write_text("\n".join(text.splitlines()[:4]))
    made = import_runs(tmp_path / "b.csv", {"n_params": "N * 1000000", "d_total": "tokens * 10000000"})
    assert made.left_out() == {"checkpoint": 2}
