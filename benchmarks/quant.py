"""What a QAT step costs: processor time over that of the full-precision step of the same model, side by side.

    python benchmarks/quant.py [--widths 24 64 128] [--rounds 7] [--backend eager|compiled]

A step is forward, backward, clipping and AdamW on 16 sequences of 128 tokens, on one thread. Contestants alternate
round by round, so that noise of a shared machine hits all alike; processor time does not count what others take. Each
figure is the median over rounds of a ratio within one round. torchao's rows are its own fake quantizers, as its
`FakeQuantizedLinear` applies them, in the same model; they need the export extra.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from worker_process import become_worker

from qatplan.cli.output import table
from qatplan.quant import registry
from qatplan.training.corpus.corpus import Source, open_corpus, prepare
from qatplan.training.model.compilation import compiled
from qatplan.training.model.decoder import Feed, make_forward, unchanged
from qatplan.training.model.quantized import QuantizedModel, activation_feed
from qatplan.training.runtime import Runtime, can_compile
from qatplan.training.segment import Activation, Quantization, SegmentConfig
from qatplan.training.shape import shape_of_width
from qatplan.training.trainer import start_state

SEQUENCES, SEQUENCE = 16, 128
SYMMETRIC, ASYMMETRIC = 1.25, 1.5
CONTINUOUS = "softclamp", "sigmoid"

Step = Callable[[], None]
Tensors = Callable[[], list[Tensor]]


class Bench:
    """Steps of one model in many ways."""

    def __init__(self, config: SegmentConfig, runtime: Runtime) -> None:
        self.config = config
        self.batch = runtime.batch(config, 0)
        self.start = start_state(config).weights
        self._compiled = 0
        # One compiled function for all that quantize weights alone, as in a sweep.
        self.plain = self._forward(unchanged)

    def _forward(self, feed: Feed) -> Callable[[list[Tensor], Tensor, Tensor], Tensor]:
        forward = make_forward(self.config.shape, SEQUENCE, torch.device("cpu"), feed)
        if self.config.backend == "eager":
            return forward
        self._compiled += 1
        return compiled(forward, f"benchmark {self._compiled}")

    def weights(self) -> dict[str, nn.Parameter]:
        return {name: nn.Parameter(tensor.clone()) for name, tensor in self.start.items()}

    def step(
        self, weights: Mapping[str, nn.Parameter], tensors: Tensors, learned: Sequence[nn.Parameter], feed: Feed | None
    ) -> Step:
        forward = self.plain if feed is None else self._forward(feed)
        optimizer = torch.optim.AdamW([*weights.values(), *learned], lr=1e-4, fused=True)

        def step() -> None:
            forward(tensors(), *self.batch).mean().backward()
            nn.utils.clip_grad_norm_(list(weights.values()), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return step

    def full_precision(self) -> Step:
        weights = self.weights()
        return self.step(weights, lambda: [weight.view_as(weight) for weight in weights.values()], [], None)

    def quantized(self, name: str, bits: float, activation: Activation | None = None) -> Step:
        """A step of the harness."""
        weights = self.weights()
        quantization = Quantization(
            quantizer=name, bits=bits, group_size=None, embedding_bits=max(bits, 4), activation=activation
        )
        model = QuantizedModel(weights, quantization)
        model.calibrate(weights, self.config.shape, *self.batch)
        feed = activation_feed(model.activation) if model.activation else None
        return self.step(weights, lambda: model.tensors(weights), list(model.learned().values()), feed)

    def torchao(self, symmetric: bool, activations: bool) -> Step:
        """A step with torchao's fake quantizers: 4-bit weights per channel, and 8-bit activations per token."""
        from torchao.quantization.qat import IntxFakeQuantizeConfig
        from torchao.quantization.qat.fake_quantizer import IntxFakeQuantizer

        weights = self.weights()
        four_bits: torch.dtype = torch.int4  # type: ignore[attr-defined]  # torch's own stubs lack it
        of_weights = IntxFakeQuantizer(IntxFakeQuantizeConfig(four_bits, "per_channel", is_symmetric=symmetric))
        of_tokens = IntxFakeQuantizer(IntxFakeQuantizeConfig(torch.int8, "per_token", is_symmetric=False))

        def feed(x: Tensor, site: int, ranges: Sequence[Tensor]) -> Tensor:
            quantized: Tensor = of_tokens(x)
            return quantized

        def tensors() -> list[Tensor]:
            return [of_weights(w) if w.ndim == 2 else w.view_as(w) for w in weights.values()]

        return self.step(weights, tensors, [], feed if activations else None)


def contestants(bench: Bench) -> dict[tuple[str, str], tuple[Step, float | None]]:
    """(what, how) -> a step and its target; torchao has none."""
    found: dict[tuple[str, str], tuple[Step, float | None]] = {}
    for entry in registry.ENTRIES:
        target = SYMMETRIC if entry.symmetric and not entry.name.endswith(CONTINUOUS) else ASYMMETRIC
        # Only ParetoQ computes something else at few bits.
        for bits in (2, 4) if entry.name == "paretoq" else (4,):
            found[entry.name, f"W{bits}"] = bench.quantized(entry.name, bits), target
        for granularity in entry.activations:
            activation = Activation(quantizer=entry.name, bits=8, granularity=granularity)
            found[entry.name, f"W4 A8 per {granularity}"] = bench.quantized(entry.name, 4, activation), target
    if importlib.util.find_spec("torchao") is not None:
        for symmetric in (True, False):
            name = f"torchao {'symmetric' if symmetric else 'asymmetric'}"
            found[name, "W4"] = bench.torchao(symmetric, activations=False), None
            found[name, "W4 A8 per token"] = bench.torchao(symmetric, activations=True), None
    return found


def measure(
    steps: Mapping[tuple[str, str], Step], plain: Step, rounds: int, count: int
) -> dict[tuple[str, str], float]:
    """Median over rounds of each contestant's processor time over the full-precision step's."""

    def seconds(step: Step) -> float:
        started = time.process_time()
        for _ in range(count):
            step()
        return time.process_time() - started

    ratios: dict[tuple[str, str], list[float]] = {key: [] for key in steps}
    for step in (plain, *steps.values()):
        step()
    for _ in range(rounds):
        before = seconds(plain)
        for key, step in steps.items():
            # Full-precision steps right before and after, so that a slow minute slows both sides of the ratio.
            own, after = seconds(step), seconds(plain)
            ratios[key].append(2 * own / (before + after))
            before = after
    return {key: statistics.median(values) for key, values in ratios.items()}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--widths", type=int, nargs="+", default=[24, 64, 128])
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--steps", type=int, default=3, help="steps of a contestant in a round")
    arguments.add_argument("--only", nargs="+", default=None, help="names of quantizers")
    arguments.add_argument("--backend", choices=["eager", "compiled"], default="eager")
    options = arguments.parse_args()
    become_worker()
    if options.backend == "compiled" and not can_compile("cpu"):
        arguments.error("compiled needs a C++ compiler.")
    torch.set_num_threads(1)
    results: dict[tuple[str, str], dict[int, float]] = {}
    targets: dict[tuple[str, str], float | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        prepare(Source(name="sotu"), Path(folder))
        runtime = Runtime(open_corpus(Path(folder)), "cpu")
        for width in options.widths:
            config = SegmentConfig(
                kind="trunk", shape=shape_of_width(width), seed=0, corpus=runtime.corpus.info.digest, start=0, end=1,
                sequences=SEQUENCES, sequence=SEQUENCE, learning_rate=1e-3, warmup_steps=10, weight_decay=0.1,
                backend=options.backend, device="cpu", validation_tokens=65536, evaluate=False,
            )  # fmt: skip
            bench = Bench(config, runtime)
            chosen = {k: v for k, v in contestants(bench).items() if not options.only or k[0] in options.only}
            steps = {key: step for key, (step, _) in chosen.items()}
            for key, ratio in measure(steps, bench.full_precision(), options.rounds, options.steps).items():
                results.setdefault(key, {})[width] = ratio
                targets[key] = chosen[key][1]
    titles = ["quantizer", "bits", "target", *(f"width {width}" for width in options.widths)]
    print(table(titles, [
        (*key, "" if (target := targets[key]) is None else f"{target:.2f}",
         *(f"{ratio:.2f}{'' if target is None or ratio <= target else ' !'}" for ratio in ratios.values()))
        for key, ratios in results.items()
    ]))  # fmt: skip


if __name__ == "__main__":
    main()
