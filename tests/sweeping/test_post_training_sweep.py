"""Post-training methods as a sweep sees them: names, rows, and what a specification is refused for."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console
from support.graphs import graph
from support.specifications import written

from qatplan import runs
from qatplan.errors import UsageError
from qatplan.sweeping.engines.engine import Event
from qatplan.sweeping.graph import evaluation_tokens, timed_tokens
from qatplan.sweeping.progress.state import ProgressState
from qatplan.sweeping.run import sweep
from qatplan.sweeping.specification import parse, read
from qatplan.training.recipes import POST_TRAINING, RECIPES

GRID: dict[str, Any] = {
    "widths": 16, "tokens": "100K", "bits": [2, 4], "fractions": 0, "post_training": ["rtn", "adaround", "importance"],
}  # fmt: skip
GRIDS = """
[[grid]]
widths = 16
tokens = 25600
bits = 4
fractions = 0
post_training = ["rtn", "adaround", "importance"]
"""


def test_every_method_is_a_run_and_rounding_to_nearest_keeps_its_name() -> None:
    found = graph(GRID)
    alone = {**GRID, "post_training": "rtn"}
    named = {k: v for k, v in alone.items() if k != "post_training"}
    assert len(found.runs) == 1 + 2 * 3
    assert {run.id for run in graph(named).runs} == {run.id for run in graph(alone).runs} < {r.id for r in found.runs}


def test_a_method_counts_the_time_it_takes() -> None:
    found = graph(GRID)
    for run in found.runs:
        quantization = run.config.quantization
        recipe = RECIPES[quantization.post_training] if quantization else None
        own = run.config.tokens + (recipe.tokens if recipe else 0)
        assert timed_tokens(run.config) == own + evaluation_tokens(run.config)
    progress = ProgressState(found, set(found.segments), 0, time.monotonic)
    for segment in found.segments.values():
        progress.take(Event(kind="done", segment=segment))
    assert progress.snapshot().done == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"post_training": "gptq"}, "post_training 'gptq' is not one of rtn, adaround, importance"),
        (
            {"bits": [1.58]},
            r"importance mixes bits - 1, bits and bits \+ 1, so with paretoq bits 1\.58 is not one of 2, 3",
        ),
        ({"bits": 8}, r"so with paretoq bits 8 is not one of 2, 3, 4, 5, 6, 7"),
        ({"quantizers": "lsq"}, "with lsq bits 2 is not one of 3, 4, 5, 6, 7"),
        ({"group_sizes": "tensor"}, 'importance gives each output neuron bits of its own, so group_sizes "tensor"'),
    ],
)
def test_what_a_method_cannot_do_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        parse({"corpus": {"name": "sotu"}, "grid": [{**GRID, **change}]}, Path())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pa.Table]:
    """The specification's file, swept into the folder `out` beside it, and the rows."""
    folder = tmp_path_factory.mktemp("specification")
    written(folder, GRIDS)
    return folder, swept(folder)


def swept(folder: Path) -> pa.Table:
    console = Console(file=io.StringIO())
    sweep(read(folder / "sweep.toml"), folder / "out", device="cpu", workers=1, console=console)
    return runs.read([folder / "out"])


def test_rows_say_the_method_and_its_constants(made: tuple[Path, pa.Table]) -> None:
    table = made[1]
    assert runs.validate(table) == []
    found = {row["post_training"]: row for row in table.to_pylist()}
    assert set(found) == {None, *POST_TRAINING}
    assert found["rtn"]["post_training_settings"] is None
    assert found["adaround"]["post_training_settings"].startswith("calibration_tokens 16384, iterations 500,")
    assert "share" in found["importance"]["post_training_settings"]
    for method in POST_TRAINING:
        assert (found[method]["bits"], found[method]["d_qat"], found[method]["schedule"]) == (4.0, 0, "post-training")
    assert found[None]["loss"] < found["adaround"]["loss"] < found["rtn"]["loss"]


def test_a_lost_row_is_made_again_to_the_last_bit(made: tuple[Path, pa.Table]) -> None:
    folder, table = made
    before = {row["post_training"]: row for row in table.to_pylist()}
    lost = before["adaround"]
    (path,) = (folder / "out" / "runs").glob(f"{lost['run_id']}*.parquet")
    path.unlink()
    after = {row["post_training"]: row for row in swept(folder).to_pylist()}
    assert (after["adaround"]["run_id"], after["adaround"]["loss"]) == (lost["run_id"], lost["loss"])
    assert {name: row["loss"] for name, row in after.items()} == {name: row["loss"] for name, row in before.items()}
