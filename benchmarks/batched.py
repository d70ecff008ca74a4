"""Branches trained as one stack against the same branches one by one: tokens per second, side by side.

    python benchmarks/batched.py [--device cpu|cuda] [--widths 24 64 128] [--branches 1 2 4 8] [--steps 30] [--rounds 3]
                                 [--backend eager|compiled] [--precision float32|bfloat16] [--launched]

Every branch is a QAT phase of the ParetoQ quantizers at 1, 2, 3 or 4 bits, each with a learning rate of its own. The
ways alternate round by round after one of each to warm up; a rate is that of all branches together, the median over
rounds, and a ratio that of two ways in the same round. Time is the wall's, from the parent's state to all ends. On a
CPU one thread is used, as a sweep's workers do. On a GPU both ways record their steps as CUDA graphs; `--launched`
shows a third, the branches one by one with their steps launched kernel by kernel.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from qatplan.cli.output import table
from qatplan.training.checkpoint import State
from qatplan.training.corpus.corpus import Source, open_corpus, prepare
from qatplan.training.runtime import Runtime
from qatplan.training.segment import PRECISIONS, Quantization, SegmentConfig, Switch
from qatplan.training.shape import shape_of_width
from qatplan.training.stack import train_stack
from qatplan.training.trainer import start_state, train

SEQUENCES, SEQUENCE = 16, 128
BITS = (1, 2, 3, 4)


def phases(
    width: int, branches: int, options: argparse.Namespace, runtime: Runtime
) -> tuple[list[SegmentConfig], State]:
    """So many branches of one trunk, and the state they begin with."""
    trunk = SegmentConfig(
        kind="trunk", shape=shape_of_width(width), seed=0, corpus=runtime.corpus.info.digest, start=0, end=5,
        sequences=SEQUENCES, sequence=SEQUENCE, learning_rate=4e-3, warmup_steps=5, weight_decay=0.1,
        backend=options.backend, device=options.device, validation_tokens=2048, evaluate=False,
        precision=options.precision,
    )  # fmt: skip
    configs = []
    for number in range(branches):
        bits = BITS[number % len(BITS)]
        switch = Switch(
            learning_rate=0.4 + 0.1 * number, scale_learning_rate=1.0, optimizer_state="kept", rewarmup_steps=2,
            decay_start=5,
        )  # fmt: skip
        quantization = Quantization(quantizer="paretoq", bits=bits, group_size=None, embedding_bits=max(4, bits))
        end = 5 + options.steps
        configs.append(replace(trunk, kind="qat", start=5, end=end, quantization=quantization, switch=switch))
    return configs, train(trunk, start_state(trunk), runtime)


def seconds(call: Callable[[], object], device: str) -> float:
    """The wall time of a call, with all that it has left to the GPU."""
    started = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--widths", type=int, nargs="+", default=[24, 64, 128])
    parser.add_argument("--branches", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backend", choices=("eager", "compiled"), default="eager")
    parser.add_argument("--launched", action="store_true", help="on a GPU, also without CUDA graphs")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    options = parser.parse_args()
    if options.launched and options.device == "cpu":
        parser.error("--launched needs --device cuda: on a CPU all steps are.")
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        prepare(Source(name="sotu"), Path(scratch))
        corpus = open_corpus(Path(scratch))
        runtime = Runtime(corpus, options.device)
        launching = Runtime(corpus, options.device, capture=False)
        for width in options.widths:
            for branches in options.branches:
                configs, begin = phases(width, branches, options, runtime)
                tokens = sum(config.tokens for config in configs)

                def stacked(configs: list[SegmentConfig] = configs, begin: State = begin) -> None:
                    for _ in train_stack(configs, [begin] * len(configs), runtime):
                        pass

                def one_by_one(
                    how: Runtime = runtime, configs: list[SegmentConfig] = configs, begin: State = begin
                ) -> None:
                    for config in configs:
                        train(config, begin, how)

                ways: list[Callable[[], object]] = [
                    stacked,
                    one_by_one,
                    *([partial(one_by_one, launching)] if options.launched else []),
                ]
                for way in ways:
                    way()
                rounds = [[seconds(way, options.device) for way in ways] for _ in range(options.rounds)]
                rates = [f"{tokens / statistics.median(times):,.0f}" for times in zip(*rounds, strict=True)]
                ratios = [
                    f"{statistics.median(slow / fast for fast, slow in zip(*pair, strict=True)):.2f}"
                    for pair in pairwise(zip(*rounds, strict=True))
                ]
                rows.append((width, branches, *reversed(rates), *reversed(ratios)))
                print(*rows[-1], flush=True)
    where = torch.cuda.get_device_name() if options.device == "cuda" else "one CPU thread"
    print(f"\n{where}, {options.backend}, {options.precision}, torch {torch.__version__}\n")
    names = [*(["launched"] if options.launched else []), "one by one", "stacked"]
    compared = [f"{later} / {earlier}" for earlier, later in pairwise(names)]
    print(table(["width", "branches", *(f"{name}, tokens/s" for name in names), *compared], rows))


if __name__ == "__main__":
    main()
