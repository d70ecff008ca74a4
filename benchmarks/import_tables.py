"""How long foreign tables take to import: many final runs, many checkpoints, many columns.

    python benchmarks/import_tables.py [--rows 200000] [--columns 60000]

Prints wall and CPU seconds of tables that are made here.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np
from many_runs import timed

from qatplan.importing.importer import import_runs

HEADER = ("run_name", "N", "tokens", "step", "max_steps", "lr", "seed", "format", "val_loss")
MAPPING = {
    "run_id": "run_name", "n_params": "N", "d_total": "tokens", "loss": "val_loss", "bits": "format",
    "learning_rate": "lr", "seed": "seed",
}  # fmt: skip


def write(file: Path, runs: int, checkpoints: int, more: int = 0) -> None:
    """A CSV of `runs` runs with as many rows each, and `more` columns that are empty."""
    rng = np.random.default_rng(0)
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*HEADER, *(f"metric_{i}" for i in range(more))])
        for run in range(runs):
            size = int(10 ** rng.uniform(6, 9))
            tokens, rate = int(size * rng.uniform(5, 100)), round(10 ** rng.uniform(-4, -2), 6)
            form = str(rng.choice(["bf16", "W4A16", "int8", "ternary"]))
            for step in range(1, checkpoints + 1):
                seen = tokens * step // checkpoints
                loss = round(1.7 + 400 / size**0.34 + 2000 / seen**0.36 + 0.002 * rng.normal(), 4)
                row = (f"run{run}", size, seen, step, checkpoints, rate, run % 5, form, loss)
                writer.writerow([*row, *[""] * more])


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=200_000)
    options.add_argument("--columns", type=int, default=60_000)
    asked = options.parse_args()
    print(f"{'':46} {'wall s':>7} {'CPU s':>7}")
    with tempfile.TemporaryDirectory() as scratch:
        for what, shape in (
            (f"{asked.rows} final runs", (asked.rows, 1)),
            (f"{asked.rows} rows, 100 checkpoints a run", (asked.rows // 100, 100)),
            (f"20 runs with {asked.columns} columns", (20, 1, asked.columns)),
        ):
            file = Path(scratch) / "table.csv"
            write(file, *shape)
            made = timed(what, lambda file=file: import_runs(file, MAPPING, {"fraction": "1"}))  # type: ignore[misc]
            print(f"{made.table.num_rows} of {made.rows_read} rows are runs")


if __name__ == "__main__":
    main()
