"""Train one segment from its parent's state to its own: the inner loop of the harness."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from qatplan.training.checkpoint import State
from qatplan.training.model import Decoder
from qatplan.training.optimizer import Optimizer
from qatplan.training.post_training import quantize_after_training
from qatplan.training.quantized import QuantizedModel, quantizer_of
from qatplan.training.runtime import Runtime
from qatplan.training.schedule import learning_rate_at
from qatplan.training.segment import SegmentConfig
from qatplan.training.transition import TransitionRate

CLIP = 1.0
CURVE_STEPS = 25
"""Steps averaged in one point of the training curve."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Loss on the fixed validation set, nats per token, with its standard error over validation blocks."""

    loss: float
    standard_error: float


Watch = Callable[[int], None]
"""Called with the number of steps done in the segment, now and then."""
Save = Callable[[State], None]
"""Called with a state from which the segment can go on."""


def start_state(config: SegmentConfig) -> State:
    """The untrained model of a configuration's shape and seed."""
    generator = torch.Generator().manual_seed(config.seed)
    model = Decoder(config.shape, generator)
    return State(step=0, weights={name: tensor.detach() for name, tensor in model.named_weights()}, moments={})


def train(
    config: SegmentConfig,
    begin: State,
    runtime: Runtime,
    *,
    watch: Watch | None = None,
    save: Save | None = None,
    save_seconds: float = 60.0,
) -> State:
    """Train from `begin` (the parent's end, or this segment's own saved state) to `config.end`.

    A non-finite loss ends the segment with status `diverged`; so does an end that is worse than both the untrained
    and the freshly quantized model. `save` is called about every `save_seconds` with a state to resume from; resuming
    gives the same numbers bit for bit.
    """
    if begin.status == "diverged":
        return replace(begin, step=config.end, seconds=0.0)
    started = time.monotonic() - (begin.seconds if begin.step > config.start else 0.0)
    loop = _Loop(config, begin, runtime)
    saved = watched = time.monotonic()
    for step in range(begin.step, config.end):
        loop.step(step)
        if not loop.finite:
            break
        now = time.monotonic()
        if watch is not None and now - watched > 0.5:
            watch(step + 1 - config.start)
            watched = now
        # Only at the grid of the curve: a state then never holds half a point.
        if save is not None and now - saved > save_seconds and (step + 1) % CURVE_STEPS == 0:
            save(loop.state(step + 1, now - started))
            saved = now
    return loop.finish(time.monotonic() - started)


class _Loop:
    """The mutable heart of a segment: parameters, optimizer, curve."""

    def __init__(self, config: SegmentConfig, begin: State, runtime: Runtime) -> None:
        self.config, self.runtime = config, runtime
        self.forward = runtime.forward(config)
        fresh = begin.step == config.start
        self.weights = {
            name: nn.Parameter(tensor.to(runtime.device, copy=True)) for name, tensor in begin.weights.items()
        }
        self.quantized = self._quantized(begin, fresh)
        self.ranges = self.quantized.learned() if self.quantized is not None else {}
        self.transition = self._transition(begin, fresh)
        self.optimizer = self._optimizer(begin, fresh)
        self.curve = list(begin.curve)
        self.transitions = list(begin.transitions)
        self.first_losses = list(begin.first_losses)
        self.note_first = fresh and (begin.step == 0 or config.quantization is not None)
        self.total = torch.zeros((), device=runtime.device)
        self.count = 0
        self.finite = True

    def _quantized(self, begin: State, fresh: bool) -> QuantizedModel | None:
        config = self.config
        if config.quantization is None:
            return None
        model = QuantizedModel(self.weights, config.quantization)
        if fresh:
            model.calibrate(self.weights, config.shape, *self.runtime.batch(config, begin.step))
        else:
            model.restore(config.shape, begin.range_starts, begin.ranges)
        return model

    def _transition(self, begin: State, fresh: bool) -> TransitionRate | None:
        switch, quantization = self.config.switch, self.config.quantization
        if self.quantized is None or switch is None or quantization is None or switch.transition_rate is None:
            return None
        self.quantized.freeze_weights()
        matrices = {name: self.weights[name] for name in self.quantized.weights}
        transition = TransitionRate(
            {name: matrix.numel() for name, matrix in matrices.items()},
            {name: quantizer_of(name, quantization).bits for name in matrices},
            share=switch.transition_rate,
            steps=self.config.end - self.config.start,
            by_layer=switch.update == "transition-rate-by-layer",
        )
        if not fresh:
            transition.restore(begin.transition_state)
        return transition

    def _optimizer(self, begin: State, fresh: bool) -> Optimizer:
        switch = self.config.switch
        name = switch.optimizer if switch is not None else "adamw"
        optimizer = Optimizer(
            name,
            self.weights,
            {name: value for name, value in self.ranges.items() if value.requires_grad},
            weight_decay=self.config.weight_decay,
            separate=self.transition is not None and self.transition.by_layer,
        )
        if not (fresh and switch is not None and switch.optimizer_state == "reset"):
            # At the switch there are AdamW's moments, of which SGD and Muon can make nothing.
            optimizer.restore(begin.moments, without=optimizer.owned if fresh and name != "adamw" else [])
        return optimizer

    def current(self) -> list[Tensor]:
        """The weights as the model sees them, in the order of `Decoder.named_weights`.

        Views, not parameters, in full precision: torch.compile then has one program for both phases.
        """
        if self.quantized is None:
            return [parameter.view_as(parameter) for parameter in self.weights.values()]
        return self.quantized.tensors(self.weights)

    def step(self, step: int) -> None:
        tokens, targets = self.runtime.batch(self.config, step)
        current = self.current()
        loss = self.forward(current, tokens, targets).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(list(self.weights.values()), CLIP)
        self.optimizer.set_rates(learning_rate_at(self.config, step), self._special_rates(step, current))
        self.optimizer.step()
        value = loss.detach()
        if self.note_first:
            self.first_losses.append(float(value))
            self.note_first = False
        self.total += value
        self.count += 1
        if (step + 1) % CURVE_STEPS == 0 or step + 1 == self.config.end:
            mean = float(self.total) / self.count
            self.curve.append(((step + 1) * self.config.sequences * self.config.sequence, mean))
            self.finite = math.isfinite(mean)
            self.total.zero_()
            self.count = 0
            if self.transition is not None:
                self.transitions += [(self.curve[-1][0], *means) for means in self.transition.take_means()]

    def _special_rates(self, step: int, current: list[Tensor]) -> dict[str, float]:
        """Rates that differ from the schedule's: of the ranges and, under a transition rate, of the matrices."""
        config, switch = self.config, self.config.switch
        if switch is None:
            return {}
        ranges = dict.fromkeys(self.ranges, learning_rate_at(config, step) * switch.scale_learning_rate)
        if self.transition is None:
            return ranges
        matrices = [
            tensor for name, tensor in zip(self.weights, current, strict=False) if name in self.transition.names
        ]
        self.transition.observe(step - config.start, matrices)
        return ranges | self.transition.rates(config.learning_rate * switch.learning_rate)

    def state(self, step: int, seconds: float) -> State:
        return State(
            step=step,
            weights={name: parameter.detach().clone() for name, parameter in self.weights.items()},
            moments=self.optimizer.moments(),
            ranges={name: value.detach().clone() for name, value in self.ranges.items()},
            range_starts={n: start.clone() for n, start in self.quantized.starts().items()} if self.quantized else {},
            curve=self.curve,
            first_losses=self.first_losses,
            transitions=self.transitions,
            transition_state=self.transition.state() if self.transition is not None else {},
            seconds=seconds,
        )

    def finish(self, seconds: float) -> State:
        last = self.curve[-1][1] if self.curve else 0.0
        worse = bool(self.first_losses) and last > max(self.first_losses)
        status = "finished" if self.finite and not worse else "diverged"
        return replace(self.state(self.config.end, seconds), status=status)


@torch.no_grad()
def evaluated_tensors(
    config: SegmentConfig, state: State, runtime: Runtime, watch: Watch = lambda steps: None
) -> list[Tensor]:
    """What a finished segment is judged by: its weights, on their grid if it quantizes, and its activations' ranges.

    A `round` segment is quantized here; `watch` is called meanwhile.
    """
    weights = {name: tensor.to(runtime.device) for name, tensor in state.weights.items()}
    quantization = config.quantization
    if quantization is None:
        return list(weights.values())
    if config.kind == "round":
        found = quantize_after_training(config, weights, runtime, lambda: watch(0))
        weights = {name: found[name].values() if name in found else weight for name, weight in weights.items()}
    model = QuantizedModel(weights, quantization, rounded=config.kind == "round")
    if config.kind == "round":
        model.calibrate(weights, config.shape, *runtime.batch(config, config.end))
    else:
        model.restore(config.shape, state.range_starts, state.ranges)
    return model.tensors(weights)


def evaluate(config: SegmentConfig, state: State, runtime: Runtime, watch: Watch = lambda steps: None) -> Evaluation:
    """Loss of a segment's end on the fixed validation set; not a number if the weights are not finite."""
    return loss_of(config, evaluated_tensors(config, state, runtime, watch), runtime)


@torch.no_grad()
def loss_of(config: SegmentConfig, tensors: list[Tensor], runtime: Runtime) -> Evaluation:
    """The same for the tensors that the model's forward function takes."""
    forward = runtime.forward(config)
    blocks = runtime.validation(config)
    losses = []
    for start in range(0, len(blocks), config.sequences):
        rows = blocks[start : start + config.sequences]
        losses.append(forward(tensors, rows[:, :-1].contiguous(), rows[:, 1:].contiguous()))
    values = torch.cat(losses).double()
    return Evaluation(loss=float(values.mean()), standard_error=float(values.std()) / math.sqrt(len(values)))
