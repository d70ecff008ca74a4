"""A training step on a GPU: recorded as a CUDA graph against launched kernel by kernel, eager and compiled.

    python benchmarks/gpu.py [--widths 64 128 256 512] [--precisions float32 bfloat16] [--steps 100]

A step's time is what a segment that is longer by `--steps` takes longer, by the wall, so neither the first steps nor
recording count; "before" is what they take: the time of a segment of `WARM_UP_STEPS` + 1 steps, compilers excluded.
QAT is that of ParetoQ at 2 bits. "Equal" says whether recorded and launched training end with the same weights, bit
for bit. Memory is the most that was reserved for tensors, for one model and for a stack in QAT, beside what
`qatplan.sweeping.engines.gpu_share` plans with, which also allows for what CUDA takes before the first tensor.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from qatplan.cli.output import table
from qatplan.sweeping.engines.gpu_share import LARGEST_STACK, training_bytes
from qatplan.training.checkpoint import State
from qatplan.training.corpus.corpus import Corpus, Source, open_corpus, prepare
from qatplan.training.model.cuda_graph import WARM_UP_STEPS
from qatplan.training.runtime import Runtime, can_compile
from qatplan.training.segment import PRECISIONS, Quantization, SegmentConfig, Switch
from qatplan.training.shape import shape_of_width
from qatplan.training.stack import train_stack
from qatplan.training.trainer import start_state, train

SEQUENCES, SEQUENCE = 16, 128
FIRST = WARM_UP_STEPS + 1


def trunk_of(width: int, corpus: Corpus, precision: str, backend: str) -> SegmentConfig:
    """The full-precision segment that is timed; its end is set by who trains it."""
    return SegmentConfig(
        kind="trunk", shape=shape_of_width(width), seed=0, corpus=corpus.info.digest, start=0, end=FIRST,
        sequences=SEQUENCES, sequence=SEQUENCE, learning_rate=2e-3, warmup_steps=5, weight_decay=0.1,
        backend="compiled" if backend == "compiled" else "eager", device="cuda", validation_tokens=2048,
        evaluate=False, precision=precision,
    )  # fmt: skip


def phase_of(trunk: SegmentConfig) -> SegmentConfig:
    """A QAT phase that begins where the trunk ends."""
    switch = Switch(
        learning_rate=0.5, scale_learning_rate=1.0, optimizer_state="kept", rewarmup_steps=2, decay_start=trunk.end
    )
    quantization = Quantization(quantizer="paretoq", bits=2, group_size=None, embedding_bits=4)
    return replace(
        trunk, kind="qat", start=trunk.end, end=trunk.end + FIRST, quantization=quantization, switch=switch
    )  # fmt: skip


def timed(config: SegmentConfig, begin: State, runtime: Runtime, steps: int) -> tuple[float, float, State]:
    """Seconds before the steady steps and of one of them, and the end of the longer segment."""
    train(config, begin, runtime)  # compiles

    def seconds(end: int) -> tuple[float, State]:
        torch.cuda.synchronize()
        started = time.perf_counter()
        state = train(replace(config, end=end), begin, runtime)
        torch.cuda.synchronize()
        return time.perf_counter() - started, state

    before, _ = seconds(config.end)
    whole, end = seconds(config.end + steps)
    return before, (whole - before) / steps, end


def equal(left: State, right: State) -> bool:
    """Whether two ends have the same weights."""
    return all(torch.equal(tensor, right.weights[name]) for name, tensor in left.weights.items())


def step_rows(width: int, corpus: Corpus, precision: str, steps: int) -> Iterator[tuple[object, ...]]:
    """One line per backend."""
    for backend in ("eager", "compiled") if can_compile("cuda") else ("eager",):
        recorded, launched = Runtime(corpus, "cuda"), Runtime(corpus, "cuda", capture=False)
        trunk = trunk_of(width, corpus, precision, backend)
        begin = start_state(trunk)
        before, full, end = timed(trunk, begin, recorded, steps)
        _, slow, other = timed(trunk, begin, launched, steps)
        phase = phase_of(trunk)
        parent = train(trunk, begin, recorded)
        _, qat, quantized = timed(phase, parent, recorded, steps)
        _, slow_qat, other_quantized = timed(phase, parent, launched, steps)
        same = "yes" if equal(end, other) and equal(quantized, other_quantized) else "NO"
        yield (
            width, precision, backend, f"{1e3 * slow:.2f}", f"{1e3 * full:.2f}", f"{slow / full:.1f}",
            f"{1e3 * slow_qat:.2f}", f"{1e3 * qat:.2f}", f"{slow_qat / qat:.1f}", f"{qat / full:.2f}",
            f"{1e3 * before:.0f}", same,
        )  # fmt: skip


def memory_rows(width: int, corpus: Corpus) -> Iterator[tuple[object, ...]]:
    """One line for a model, one for a stack."""
    for models in (1, LARGEST_STACK):
        runtime = Runtime(corpus, "cuda")
        trunk = trunk_of(width, corpus, "float32", "eager")
        phases = [replace(phase_of(trunk), end=2 * FIRST + 4)] * models
        parent = train(trunk, start_state(trunk), runtime)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        for _ in train_stack(phases, [parent] * models, runtime):
            pass
        peak, planned = torch.cuda.max_memory_reserved(), training_bytes(trunk, models)
        yield width, models, f"{peak / 2**20:.0f}", f"{planned / 2**20:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--precisions", choices=PRECISIONS, nargs="+", default=list(PRECISIONS))
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        prepare(Source(name="sotu"), Path(scratch))
        corpus = open_corpus(Path(scratch))
        memory = [row for width in options.widths for row in memory_rows(width, corpus)]
        rows = []
        for width in options.widths:
            for precision in options.precisions:
                for row in step_rows(width, corpus, precision, options.steps):
                    rows.append(row)
                    print(*row, flush=True)
    print(f"\n{torch.cuda.get_device_name()}, torch {torch.__version__}, {SEQUENCES * SEQUENCE} tokens a step\n")
    headers = ["width", "precision", "backend", "launched, ms", "recorded, ms", "ratio", "QAT launched", "QAT recorded",
               "ratio", "QAT / FP", "before, ms", "equal"]  # fmt: skip
    print(table(headers, rows))
    print()
    print(table(["width", "models", "memory, MiB", "planned, MiB"], memory))


if __name__ == "__main__":
    main()
