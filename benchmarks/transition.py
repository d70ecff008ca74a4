"""What a QAT step costs by optimizer and update, side by side in one run, on one thread.

    python benchmarks/transition.py [--widths 24 80] [--rounds 7]

Each row alternates its contestants round by round, so that noise of a shared machine hits all alike; ratios to a 2-bit
QAT step under AdamW and a learning rate are medians over rounds.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from train import SEQUENCE, SEQUENCES, harness_loop, measure

from qatplan.cli.output import table
from qatplan.training.corpus.corpus import Source, open_corpus, prepare
from qatplan.training.runtime import Runtime, can_compile
from qatplan.training.segment import OPTIMIZERS, UPDATES, Quantization, SegmentConfig, Switch
from qatplan.training.shape import shape_of_width

PLAIN = "adamw, learning-rate"


def configuration(width: int, optimizer: str, update: str, corpus: str) -> SegmentConfig:
    """A QAT phase from the untrained model."""
    switch = Switch(
        learning_rate=1.0, scale_learning_rate=1.0, optimizer_state="reset", rewarmup_steps=0, decay_start=0,
        optimizer=optimizer, update=update, transition_rate=None if update == "learning-rate" else 5e-3,
    )  # fmt: skip
    return SegmentConfig(
        kind="qat", shape=shape_of_width(width), seed=0, corpus=corpus, start=0, end=1, sequences=SEQUENCES,
        sequence=SEQUENCE, learning_rate=1e-3, warmup_steps=10, weight_decay=0.1,
        backend="compiled" if can_compile("cpu") else "eager", device="cpu", validation_tokens=65536, evaluate=False,
        quantization=Quantization(quantizer="paretoq", bits=2, group_size=None, embedding_bits=4), switch=switch,
    )  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--widths", type=int, nargs="+", default=[24, 80])
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--steps", type=int, default=20)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        prepare(Source(name="sotu"), Path(folder))
        runtime = Runtime(open_corpus(Path(folder)), "cpu")
        for width in options.widths:
            base = configuration(width, "adamw", "learning-rate", runtime.corpus.info.digest)
            loops = {PLAIN: harness_loop(base, runtime)}
            loops["full precision"] = harness_loop(replace(base, kind="trunk", quantization=None, switch=None), runtime)
            for optimizer in OPTIMIZERS:
                for update in UPDATES:
                    config = configuration(width, optimizer, update, runtime.corpus.info.digest)
                    loops[f"{optimizer}, {update}"] = harness_loop(config, runtime)
            measured = measure(loops, options.rounds, options.steps)
            rows += [
                (width, name, f"{measured.rate(name):.0f}", f"{measured.ratio(name, PLAIN):.2f}") for name in loops
            ]
    print(table(["width", "step", "tokens/s", "time of plain QAT"], rows))


if __name__ == "__main__":
    main()
