"""Training throughput, side by side in one run: this harness against a plain eager loop of the same model.

    python benchmarks/train.py [--widths 24 40 56 80 128 256] [--bits 1 1.58 2 3 4] [--rounds 5]

Contestants alternate round by round on one thread, and each round first times a product of two 1024 x 1024 float32
matrices, the peak of this machine. "Of peak" is tokens per second times the FLOPs of a token (6 per weight in a matrix,
and causal attention) over that peak; the other columns are ratios of time per step. All are medians over rounds. Time
is that of the processor spent in this process, which on one thread is the wall's unless other work keeps it waiting.
"Products alone" is what the weights' products of a step reach with nothing between them: no loop can do better. The
last table compares two one-thread processes with one two-thread process, by the wall.
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
import torch.nn.functional as functional
from torch import Tensor, nn
from worker_process import become_worker

from qatplan.cli.output import table
from qatplan.training.corpus.corpus import Source, batch, open_corpus, prepare
from qatplan.training.model.operations import ROTARY_BASE
from qatplan.training.runtime import Runtime, can_compile
from qatplan.training.segment import Quantization, SegmentConfig, Switch
from qatplan.training.shape import Shape, shape_of_width, training_flops_per_token
from qatplan.training.trainer import start_state, train

SEQUENCES, SEQUENCE = 16, 128
PEAK_SIZE, PEAK_PRODUCTS = 1024, 6
PLAIN = "plain loop"


class PlainBlock(nn.Module):
    """A decoder layer as one writes it first: separate projections, modules, no fusion."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, hidden = shape.width, shape.feed_forward
        self.heads = shape.heads
        self.query, self.key, self.value, self.output = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        self.first, self.second = nn.RMSNorm(width), nn.RMSNorm(width)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        def split(t: Tensor) -> Tensor:
            return t.view(*t.shape[:2], self.heads, -1).transpose(1, 2)

        def rotate(t: Tensor) -> Tensor:
            a, b = t.chunk(2, -1)
            return torch.cat((a * cosine - b * sine, b * cosine + a * sine), -1)

        y = self.first(x)
        query, key, value = split(self.query(y)), split(self.key(y)), split(self.value(y))
        mixed = functional.scaled_dot_product_attention(rotate(query), rotate(key), value, is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).reshape(x.shape))
        y = self.second(x)
        result: Tensor = x + self.down(functional.silu(self.gate(y)) * self.up(y))
        return result


class PlainModel(nn.Module):
    """The same architecture as `qatplan.training.model.decoder`, as ordinary modules."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(PlainBlock(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width)
        size = shape.head_size
        angle = torch.arange(SEQUENCE)[:, None] * ROTARY_BASE ** (-torch.arange(0, size, 2) / size)
        self.cosine, self.sine = angle.cos(), angle.sin()

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cosine, self.sine)
        logits = functional.linear(self.norm(x), self.embedding.weight)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def plain_loop(shape: Shape, runtime: Runtime) -> Callable[[int], None]:
    """A loop over the same batches with the default AdamW."""
    model = PlainModel(shape)
    assert sum(p.numel() for p in model.parameters()) == shape.n_total
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)

    def steps(number: int) -> None:
        for step in range(number):
            rows = batch(runtime.corpus, seed=0, step=step, sequences=SEQUENCES, length=SEQUENCE)
            tokens = torch.from_numpy(rows)
            loss = model(tokens[:, :-1], tokens[:, 1:])
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    return steps


def harness_loop(config: SegmentConfig, runtime: Runtime) -> Callable[[int], None]:
    """The harness's own segment."""
    state = start_state(config)

    def steps(number: int) -> None:
        train(
            replace(config, end=number, switch=config.switch and replace(config.switch, decay_start=0)), state, runtime
        )

    return steps


def contestants(width: int, bits: list[float], runtime: Runtime) -> dict[str, Callable[[int], None]]:
    """Every way to train a width."""
    shape = shape_of_width(width)
    base = SegmentConfig(
        kind="trunk", shape=shape, seed=0, corpus=runtime.corpus.info.digest, start=0, end=1, sequences=SEQUENCES,
        sequence=SEQUENCE, learning_rate=1e-3, warmup_steps=10, weight_decay=0.1, backend="eager", device="cpu",
        validation_tokens=65536, evaluate=False,
    )  # fmt: skip
    switch = Switch(
        learning_rate=1.0, scale_learning_rate=1.0, optimizer_state="reset", rewarmup_steps=0, decay_start=0
    )
    found = {PLAIN: plain_loop(shape, runtime)}
    for backend in ("eager", "compiled") if can_compile("cpu") else ("eager",):
        full = replace(base, backend=backend)
        found[backend] = harness_loop(full, runtime)
        for each in bits:
            quantization = Quantization(quantizer="paretoq", bits=each, group_size=None, embedding_bits=max(each, 4))
            qat = replace(full, kind="qat", quantization=quantization, switch=switch)
            found[f"{backend}, {each:g}-bit QAT"] = harness_loop(qat, runtime)
    return found


def peak() -> float:
    """FLOPs per second of a large matrix product on this thread."""
    left, right, product = (torch.ones(PEAK_SIZE, PEAK_SIZE) for _ in range(3))
    torch.mm(left, right, out=product)
    started = time.process_time()
    for _ in range(PEAK_PRODUCTS):
        torch.mm(left, right, out=product)
    return PEAK_PRODUCTS * 2 * PEAK_SIZE**3 / (time.process_time() - started)


def products_alone(shape: Shape, rounds: int) -> float:
    """The share of peak of the matrix products of a step, forward and backward, done one after the other."""
    tokens, width, hidden = SEQUENCES * SEQUENCE, shape.width, shape.feed_forward
    layer = [(width, 3 * width), (width, width), (width, 2 * hidden), (hidden, width)]
    flops, pairs = 0, []
    for inputs, outputs in [*layer * shape.layers, (width, shape.vocabulary)]:
        # The layer itself, the gradient of its input and that of its weight.
        for rows, inner, columns in ((tokens, inputs, outputs), (tokens, outputs, inputs), (outputs, tokens, inputs)):
            pairs.append((torch.ones(rows, inner), torch.ones(inner, columns)))
            flops += 2 * rows * inner * columns
    shares = []
    for _ in range(rounds + 1):
        best = peak()
        started = time.process_time()
        for left, right in pairs:
            left @ right
        shares.append(flops / (time.process_time() - started) / best)
    return statistics.median(shares[1:])


@dataclass(frozen=True)
class Measured:
    """Seconds per step of each loop, and the peak, in each round."""

    seconds: dict[str, list[float]]
    peaks: list[float]

    def rate(self, name: str) -> float:
        """Tokens per second."""
        return SEQUENCES * SEQUENCE / statistics.median(self.seconds[name])

    def share(self, name: str, shape: Shape) -> float:
        """Of peak, round by round."""
        flops = training_flops_per_token(shape, SEQUENCE) * SEQUENCES * SEQUENCE
        return statistics.median(flops / s / p for s, p in zip(self.seconds[name], self.peaks, strict=True))

    def ratio(self, name: str, other: str) -> float:
        """Time per step over that of another loop, round by round."""
        pairs = zip(self.seconds[name], self.seconds[other], strict=True)
        return statistics.median(mine / others for mine, others in pairs)


def measure(loops: dict[str, Callable[[int], None]], rounds: int, steps: int) -> Measured:
    """Time every loop in every round."""
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    peaks = []
    for loop in loops.values():
        loop(2)
    for _ in range(rounds):
        peaks.append(peak())
        for name, loop in loops.items():
            started = time.process_time()
            loop(steps)
            seconds[name].append((time.process_time() - started) / steps)
    return Measured(seconds, peaks)


def rows_of(width: int, bits: list[float], runtime: Runtime, rounds: int, steps: int) -> list[tuple[object, ...]]:
    """One line per loop."""
    shape = shape_of_width(width)
    loops = contestants(width, bits, runtime)
    measured = measure(loops, rounds, steps)
    rows: list[tuple[object, ...]] = []
    for name in loops:
        full = name.split(",")[0] if "QAT" in name else None
        rows.append(
            (width, shape.layers, shape.n_total, name, f"{measured.rate(name):.0f}",
             f"{measured.share(name, shape):.0%}", f"{measured.ratio(PLAIN, name):.2f}",
             f"{measured.ratio(name, full):.2f}" if full else None)
        )  # fmt: skip
    return rows


def compare_processes(width: int, steps: int) -> tuple[float, float]:
    """Tokens per second of two one-thread processes together, and of one two-thread process."""

    def start(threads: int) -> subprocess.Popen[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        arguments = [sys.executable, __file__, "--child", str(width), "--steps", str(steps)]
        return subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True)

    def rate(*processes: subprocess.Popen[str]) -> float:
        return sum(float(process.communicate()[0].split()[-1]) for process in processes)

    return rate(start(1), start(1)), rate(start(2))


def child_rate(width: int, runtime: Runtime, steps: int) -> float:
    """Tokens per second of the plain loop by the wall, for `compare_processes`."""
    loop = plain_loop(shape_of_width(width), runtime)
    loop(2)
    rates = []
    for _ in range(3):
        started = time.perf_counter()
        loop(steps)
        rates.append(steps * SEQUENCES * SEQUENCE / (time.perf_counter() - started))
    return statistics.median(rates)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--widths", type=int, nargs="+", default=[24, 40, 56, 80, 128, 256])
    arguments.add_argument("--bits", type=float, nargs="*", default=[1, 1.58, 2, 3, 4])
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--steps", type=int, default=6)
    arguments.add_argument("--no-processes", action="store_true", help="leave the last table out")
    arguments.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    become_worker()
    with tempfile.TemporaryDirectory() as folder:
        prepare(Source(name="sotu"), Path(folder))
        runtime = Runtime(open_corpus(Path(folder)), "cpu")
        if options.child is not None:
            print(child_rate(options.child, runtime, options.steps))
            return
        torch.set_num_threads(1)
        print(f"torch {torch.__version__}, one thread, peak {peak() / 1e9:.0f} GFLOP/s\n")
        rows = []
        for width in options.widths:
            rows += rows_of(width, options.bits, runtime, options.rounds, options.steps)
        headers = ["width", "layers", "parameters", "loop", "tokens/s", "of peak", "plain / loop", "QAT / FP"]
        print(table(headers, rows))
        print()
        alone = [(width, products_alone(shape_of_width(width), options.rounds)) for width in options.widths]
        print(table(["width", "products alone, of peak"], [(width, f"{share:.0%}") for width, share in alone]))
        if options.no_processes:
            return
        print()
        pairs = [(width, *compare_processes(width, options.steps)) for width in options.widths]
        print(table(["width", "two processes, one thread each", "one process, two threads", "ratio"],
                    [(w, f"{two:.0f}", f"{one:.0f}", f"{two / one:.2f}") for w, two, one in pairs]))  # fmt: skip


if __name__ == "__main__":
    main()
