"""One training in progress: parameters, quantizers, optimizer and curve between a segment's start and its end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from qatplan.training.checkpoint import State
from qatplan.training.model.quantized import QuantizedModel, quantizer_of
from qatplan.training.optimizer import Optimizer
from qatplan.training.runtime import Runtime
from qatplan.training.segment import SegmentConfig
from qatplan.training.transition import TransitionRate

CLIP = 1.0
CURVE_STEPS = 25
"""Steps averaged in one point of the training curve."""


class Branch:
    """The mutable heart of a segment. Whoever drives it takes `tensors`, makes a loss of them and the batch of step
    `step`, goes backward from it, and calls `set_rates`, `update` and `note`, until it is no longer `going`.
    """

    def __init__(self, config: SegmentConfig, begin: State, runtime: Runtime) -> None:
        self.config, self.runtime = config, runtime
        self.step = begin.step
        """The next one."""
        fresh = begin.step == config.start
        self.seconds = 0.0 if fresh else begin.seconds
        """Time spent so far; of a stack of branches each has an equal share."""
        self.stack = 1 if fresh else begin.stack
        """The most branches that it was ever stacked with, itself included."""
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

    @property
    def going(self) -> bool:
        """Whether there is another step to take."""
        return self.finite and self.step < self.config.end

    def tensors(self) -> list[Tensor]:
        """The weights as the model sees them, in the order of `first_weights`.

        Views, not parameters, in full precision: torch.compile then has one program for both phases.
        """
        if self.quantized is None:
            return [parameter.view_as(parameter) for parameter in self.weights.values()]
        return self.quantized.tensors(self.weights)

    @property
    def capturable(self) -> bool:
        """Whether `update` can be captured in a CUDA graph: nothing of it is read or decided by the host."""
        return self.optimizer.capturable and self.transition is None

    def set_rates(self, tensors: Sequence[Tensor] = ()) -> None:
        """Let the optimizer know how large the coming step is, given what `tensors()` returned in it.

        Only under a transition rate are they needed: there the size is a matter of what they are.
        """
        config, switch = self.config, self.config.switch
        rate = config.learning_rate_at(self.step)
        special: dict[str, float] = {}
        if switch is not None:
            special = dict.fromkeys(self.ranges, rate * switch.scale_learning_rate)
            if self.transition is not None:
                on_grid = dict(zip(self.weights, tensors, strict=False))
                self.transition.observe(self.step - config.start, [on_grid[name] for name in self.transition.names])
                special |= self.transition.rates(config.learning_rate * switch.learning_rate)
        self.optimizer.set_rates(rate, special)

    def update(self, value: Tensor) -> None:
        """Update everything from the gradients of a loss of this `value`."""
        nn.utils.clip_grad_norm_(list(self.weights.values()), CLIP)
        self.optimizer.step()
        self.total += value

    def note(self, value: Tensor) -> None:
        """Count a step that was taken, and its loss."""
        step = self.step
        self.step += 1
        if self.note_first:
            self.first_losses.append(float(value))
            self.note_first = False
        self.count += 1
        if (step + 1) % CURVE_STEPS == 0 or step + 1 == self.config.end:
            mean = float(self.total) / self.count
            self.curve.append(((step + 1) * self.config.sequences * self.config.sequence, mean))
            self.finite = math.isfinite(mean)
            self.total.zero_()
            self.count = 0
            if self.transition is not None:
                self.transitions += [(self.curve[-1][0], *means) for means in self.transition.take_means()]

    def state(self) -> State:
        """What to go on from; a state on the grid of the curve holds no half point."""
        return State(
            step=self.step,
            weights={name: parameter.detach().clone() for name, parameter in self.weights.items()},
            moments=self.optimizer.moments(),
            ranges={name: value.detach().clone() for name, value in self.ranges.items()},
            range_starts={n: start.clone() for n, start in self.quantized.starts().items()} if self.quantized else {},
            curve=list(self.curve),
            first_losses=list(self.first_losses),
            transitions=list(self.transitions),
            transition_state=self.transition.state() if self.transition is not None else {},
            seconds=self.seconds,
            stack=self.stack,
        )

    def end(self) -> State:
        """The end of the segment, diverged or not."""
        last = self.curve[-1][1] if self.curve else 0.0
        worse = bool(self.first_losses) and last > max(self.first_losses)
        status = "finished" if self.finite and not worse else "diverged"
        return replace(self.state(), step=self.config.end, status=status)
