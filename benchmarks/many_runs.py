"""How long a large sweep takes to plan, and its folder of runs to read, check and merge.

    python benchmarks/many_runs.py [--runs 10000]

Prints wall and CPU seconds. Files are written without fsync, which is not what is measured.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from qatplan import runs
from qatplan.runs import folder as run_folder
from qatplan.storage.local import LocalStorage
from qatplan.sweeping.folder import SweepFolder
from qatplan.sweeping.graph import Graph, Machine, build
from qatplan.sweeping.plan import Plan
from qatplan.sweeping.specification import parse
from qatplan.training.corpus.corpus import CorpusInfo

T = TypeVar("T")


def timed(what: str, work: Callable[[], T]) -> T:
    """Do the work and print how long it took."""
    wall, cpu = time.monotonic(), time.process_time()
    result = work()
    print(f"{what:46} {time.monotonic() - wall:7.2f} {time.process_time() - cpu:7.2f}", flush=True)
    return result


def large(count: int) -> Graph:
    """The graph of a sweep of at least `count` runs."""
    grid = {
        "widths": [16, 24, 32, 48, 64, 80], "tokens": ["1M", "2M", "4M", "8M", "16M"], "bits": [1, 2, 3, 4, 6],
        "fractions": [0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1],
        "schedules": ["classic", "fused"], "seeds": list(range(max(1, -(-count // 3900)))),
    }  # fmt: skip
    corpus = CorpusInfo(
        label="t", digest="d", vocabulary=256, train_tokens=10**8, validation_tokens=10**6, bytes_per_token=1.0,
        item_type="uint8",
    )  # fmt: skip
    content = {"corpus": {"name": "sotu"}, "grid": [grid]}
    return build(parse(content, Path()), corpus, Machine(device="cpu", can_compile=True))


def fill(folder: Path, count: int) -> None:
    """One file per run, as a sweep leaves them, made from the shipped table."""
    shipped = runs.read(Path(__file__).parents[1] / "data" / "main" / "runs.parquet")
    (folder / "runs").mkdir(parents=True)
    for number in range(count):
        name = f"{number:020x}"
        row = shipped.slice(number % shipped.num_rows, 1)
        row = row.set_column(0, row.schema.field("run_id"), pa.array([name]))
        (folder / "runs" / f"{name}.parquet").write_bytes(runs.encode(row))


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=10_000)
    count = options.parse_args().runs
    print(f"{'':46} {'wall s':>7} {'CPU s':>7}")
    with tempfile.TemporaryDirectory() as scratch:
        graph = timed("build the graph", lambda: large(count))
        plan = timed("plan it", lambda: Plan(graph, SweepFolder(Path(scratch) / "new"), set(), keep=False))
        print(f"{len(graph.runs)} runs, {len(graph.segments)} segments, {len(plan.needed)} to train")
        folder = Path(scratch) / "sweep"
        timed(f"write {count} files", lambda: fill(folder, count))
        storage = LocalStorage(folder)
        timed("read them, not merged", lambda: runs.read(folder))
        checked = timed("check them, not merged", lambda: run_folder.check(storage))
        timed("merge them", lambda: run_folder.merge(storage, checked))
        timed("read them, merged", lambda: runs.read(folder))
        timed("check them byte for byte, merged", lambda: run_folder.check(storage))


if __name__ == "__main__":
    main()
