"""What post-training methods recover of the loss that rounding to nearest costs, and how their constants matter.

    python benchmarks/post_training.py [--width 32] [--steps 1200] [--bits 2 3 4] [--constants]

Trains one full-precision model on the packaged text (steps of 2,048 tokens, a cooldown over the last fifth), then
quantizes it with each method. Seconds are CPU seconds of one thread.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from qatplan.cli.output import table
from qatplan.training.checkpoint import State
from qatplan.training.corpus.corpus import Source, open_corpus, prepare
from qatplan.training.recipes import POST_TRAINING, RECIPES, AdaRound, MixedWidths
from qatplan.training.runtime import Runtime, can_compile
from qatplan.training.segment import Quantization, SegmentConfig
from qatplan.training.shape import shape_of_width
from qatplan.training.trainer import evaluate, start_state, train

OTHERS: dict[str, tuple[AdaRound | MixedWidths, ...]] = {
    "adaround": (
        AdaRound(iterations=250, learning_rate=3e-2),
        AdaRound(learning_rate=1e-2),
        AdaRound(iterations=1000, learning_rate=1e-2, batch_tokens=1024),
        AdaRound(regulariser=0.003),
        AdaRound(regulariser=0.03),
        AdaRound(calibration_tokens=65536),
    ),
    "importance": (MixedWidths(share=0.05), MixedWidths(share=0.1), MixedWidths(share=0.4)),
}
"""Constants beside those in use, by method."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, quantize with each method, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--bits", type=float, nargs="+", default=[2, 3, 4])
    parser.add_argument("--constants", action="store_true", help="try other constants of each method too")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        prepare(Source(name="sotu"), Path(folder))
        runtime = Runtime(open_corpus(Path(folder)), "cpu")
        config, state = trained(asked.width, asked.steps, runtime)
        full = evaluate(config, state, runtime).loss
        print(f"{config.shape.n_total} parameters, full-precision loss {full:.4f}\n")
        rows = []
        for bits in asked.bits:
            nearest = None
            for method in POST_TRAINING:
                for recipe in (RECIPES[method], *(OTHERS.get(method, ()) if asked.constants else ())):
                    loss, seconds = quantized(config, state, runtime, bits, method, recipe)
                    nearest = loss if nearest is None else nearest
                    recovered = (nearest - loss) / (nearest - full)
                    rows.append((f"{bits:g}", method, constants(method, recipe), f"{loss:.4f}", f"{recovered:.0%}",
                                 f"{seconds:.1f}"))  # fmt: skip
                    print(*rows[-1], flush=True)
        print("\n" + table(["bits", "method", "constants", "loss", "recovered", "s"], rows))


def trained(width: int, steps: int, runtime: Runtime) -> tuple[SegmentConfig, State]:
    """A full-precision model of the family, and the configuration of its last segment."""
    trunk = SegmentConfig(
        kind="trunk", shape=shape_of_width(width), seed=0, corpus=runtime.corpus.info.digest, start=0,
        end=steps - steps // 5, sequences=16, sequence=128, learning_rate=4.5e-3 * 64 / width, warmup_steps=50,
        weight_decay=0.1, backend="compiled" if can_compile("cpu") else "eager", device="cpu",
        validation_tokens=131072, evaluate=True,
    )  # fmt: skip
    cooldown = replace(trunk, kind="cooldown", start=trunk.end, end=steps)
    return cooldown, train(cooldown, train(trunk, start_state(trunk), runtime), runtime)


def quantized(
    config: SegmentConfig, state: State, runtime: Runtime, bits: float, method: str,
    recipe: AdaRound | MixedWidths | None,
) -> tuple[float, float]:  # fmt: skip
    """Loss after quantizing, and the CPU seconds that quantizing and evaluating took."""
    quantization = Quantization(
        quantizer="paretoq", bits=bits, group_size=None, embedding_bits=max(bits, 4), post_training=method
    )
    before, started = RECIPES[method], time.process_time()
    RECIPES[method] = recipe
    try:
        found = evaluate(replace(config, kind="round", start=config.end, quantization=quantization), state, runtime)
    finally:
        RECIPES[method] = before
    return found.loss, time.process_time() - started


def constants(method: str, recipe: AdaRound | MixedWidths | None) -> str:
    """What differs from the constants in use."""
    used = RECIPES[method]
    if recipe is None:
        return ""
    return ", ".join(f"{key} {value:g}" for key, value in vars(recipe).items()
                     if value != getattr(used, key))  # fmt: skip


if __name__ == "__main__":
    main()
