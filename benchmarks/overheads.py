"""What a sweep spends beside training steps: evaluation, checkpoints, batches and compilation.

    python benchmarks/overheads.py [SPEC.toml] [--backend eager|compiled]

For every size of a specification (default data/main/sweep.toml) this times, on one thread, a training step, the making
of its batch, an evaluation of a full-precision end, and a checkpoint written, synced and read again; and multiplies by
how often the sweep does each. With --backend compiled it also times the first step of a fresh process, with an empty
cache of compiled programs and with the one that leaves. Time is that of the processor, but of checkpoints, batches and
first steps the wall's: they wait for disk and compiler.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from worker_process import become_worker

from qatplan.cli.output import table
from qatplan.storage.base import Entry
from qatplan.storage.local import LocalStorage
from qatplan.sweeping.graph import Graph, Machine, build
from qatplan.sweeping.specification import read
from qatplan.training import checkpoint
from qatplan.training.corpus.corpus import Source, open_corpus, prepare
from qatplan.training.runtime import Runtime
from qatplan.training.segment import SegmentConfig
from qatplan.training.trainer import evaluate, start_state, train

MAIN = Path(__file__).parents[1] / "data" / "main" / "sweep.toml"
STEPS = 6


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds of one size."""

    step: float
    batch: float
    evaluation: float
    checkpoint: float
    """Written and read."""


def timed(call: Callable[[], object], clock: Callable[[], float], repeat: int = 3) -> float:
    """The median time of a call, after one to warm up."""
    call()
    seconds = []
    for _ in range(repeat):
        started = clock()
        call()
        seconds.append(clock() - started)
    return statistics.median(seconds)


def costs(config: SegmentConfig, runtime: Runtime, folder: Path) -> Costs:
    """Everything of one size, measured."""
    state = train(replace(config, end=1), start_state(config), runtime)
    segment = replace(config, start=1, end=1 + STEPS)

    file = Entry(LocalStorage(folder), "state.pt")

    def save_and_load() -> None:
        checkpoint.save(state, file)
        checkpoint.load(file)

    return Costs(
        step=timed(lambda: train(segment, state, runtime), time.process_time) / STEPS,
        batch=timed(lambda: [runtime.batch(config, step) for step in range(100)], time.perf_counter) / 100,
        evaluation=timed(lambda: evaluate(config, state, runtime), time.process_time),
        checkpoint=timed(save_and_load, time.perf_counter, 9),
    )


def shares(graph: Graph, runtime: Runtime, folder: Path) -> list[tuple[object, ...]]:
    """A line for each size: tokens, runs, checkpoints, and shares of the time in percent."""
    children = graph.children()
    rows, total = [], dict.fromkeys(("step", "batch", "evaluation", "checkpoint"), 0.0)
    for width in sorted({segment.config.shape.width for segment in graph.segments.values()}):
        mine = [segment for segment in graph.segments.values() if segment.config.shape.width == width]
        trunk = next(segment.config for segment in mine if segment.config.kind == "trunk")
        cost = costs(replace(trunk, start=0, evaluate=False), runtime, folder)
        steps = sum(segment.config.end - segment.config.start for segment in mine)
        runs = sum(segment.config.evaluate for segment in mine)
        saved = sum(bool(children[segment.id]) for segment in mine)
        spent = {
            "step": steps * (cost.step - cost.batch),
            "batch": steps * cost.batch,
            "evaluation": runs * cost.evaluation,
            "checkpoint": saved * cost.checkpoint,
        }
        total = {name: total[name] + spent[name] for name in total}
        rows.append((width, sum(s.config.tokens for s in mine), runs, saved, *_percent(spent)))
    tokens, all_runs = graph.tokens, len(graph.runs)
    rows.append(("all", tokens, all_runs, sum(map(bool, children.values())), *_percent(total)))
    return rows


def _percent(spent: dict[str, float]) -> list[str]:
    whole = sum(spent.values())
    return [f"{100 * value / whole:.1f}" for value in spent.values()]


def first_steps(width: int) -> tuple[float, float]:
    """Seconds of the first compiled step of a fresh process: with an empty cache, and with a filled one."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}
        command = [sys.executable, __file__, "--child", str(width)]
        cold, warm = (
            float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
            for _ in range(2)
        )
    return cold, warm


def child(width: int) -> float:
    """The first step of this process."""
    specification = read(MAIN)
    with tempfile.TemporaryDirectory() as folder:
        info = prepare(Source(name="sotu"), Path(folder))
        runtime = Runtime(open_corpus(Path(folder)), "cpu")
        graph = build(specification, info, Machine(device="cpu", can_compile=True))
        trunk = next(s.config for s in graph.segments.values() if s.config.kind == "trunk")
        from qatplan.training.shape import shape_of_width

        config = replace(trunk, shape=shape_of_width(width), start=0, end=1, backend="compiled")
        state = start_state(config)
        started = time.perf_counter()
        train(config, state, runtime)
        return time.perf_counter() - started


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("specification", type=Path, nargs="?", default=MAIN)
    arguments.add_argument("--backend", choices=("eager", "compiled"), default="eager")
    arguments.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    become_worker()
    torch.set_num_threads(1)
    if options.child is not None:
        print(child(options.child))
        return
    specification = read(options.specification)
    specification = replace(specification, training=replace(specification.training, backend=options.backend))
    with tempfile.TemporaryDirectory() as scratch:
        info = prepare(specification.corpus, Path(scratch) / "corpus")
        runtime = Runtime(open_corpus(Path(scratch) / "corpus"), "cpu")
        graph = build(specification, info, Machine(device="cpu", can_compile=True))
        headers = ["width", "tokens", "runs", "checkpoints", "training %", "batches %", "evaluation %", "checkpoints %"]
        print(table(headers, shares(graph, runtime, Path(scratch))))
        if options.backend == "compiled":
            widths = sorted({s.config.shape.width for s in graph.segments.values()})
            rows = [(width, *(f"{seconds:.1f}" for seconds in first_steps(width))) for width in widths]
            print()
            print(table(["width", "first step, empty cache (s)", "filled cache (s)"], rows))


if __name__ == "__main__":
    main()
