"""Train one segment from its parent's state to its own, and evaluate its end."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from qatplan.quant.weight import RoundedWeight
from qatplan.training.checkpoint import State
from qatplan.training.model.decoder import first_weights
from qatplan.training.model.quantized import QuantizedModel
from qatplan.training.post_training.methods import quantize_after_training
from qatplan.training.runtime import Runtime, tokens_and_targets
from qatplan.training.segment import Quantization, SegmentConfig
from qatplan.training.stack import train_stack


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Loss on the fixed validation set, nats per token, with its standard error over validation blocks."""

    loss: float
    standard_error: float


def start_state(config: SegmentConfig) -> State:
    """The untrained model of a configuration's shape and seed."""
    generator = torch.Generator().manual_seed(config.seed)
    return State(step=0, weights=first_weights(config.shape, generator), moments={})


def train(
    config: SegmentConfig,
    begin: State,
    runtime: Runtime,
    *,
    watch: Callable[[int], None] | None = None,
    save: Callable[[State], None] | None = None,
    save_seconds: float = 60.0,
) -> State:
    """Train from `begin` (the parent's end, or this segment's own saved state) to `config.end`.

    A non-finite loss ends the segment with status `diverged`; so does an end that is worse than both the untrained
    and the freshly quantized model. `watch` is called now and then with the number of steps done in the segment,
    `save` about every `save_seconds` with a state to resume from; resuming gives the same numbers bit for bit.
    """
    ((_, end),) = train_stack(
        [config], [begin], runtime, save_seconds=save_seconds,
        watch=None if watch is None else lambda _, steps: watch(steps),
        save=None if save is None else lambda _, state: save(state),
    )  # fmt: skip
    return end


@torch.no_grad()
def evaluated_tensors(
    config: SegmentConfig, state: State, runtime: Runtime, watch: Callable[[int], None] = lambda steps: None
) -> list[Tensor]:
    """What a finished segment is judged by: its weights, on their grid if it quantizes, and its activations' ranges.

    A `round` segment is quantized here; `watch` is called meanwhile.
    """
    if config.quantization is None:
        return [tensor.to(runtime.device) for tensor in state.weights.values()]
    model, weights, _ = quantized_end(config, config.quantization, state, runtime, watch)
    return model.tensors(weights)


def quantized_end(
    config: SegmentConfig, quantization: Quantization, state: State, runtime: Runtime,
    watch: Callable[[int], None] = lambda steps: None,
) -> tuple[QuantizedModel, dict[str, Tensor], dict[str, RoundedWeight]]:  # fmt: skip
    """The model of a finished segment that quantizes, its weights, and what was rounded after training, by name."""
    weights = {name: tensor.to(runtime.device) for name, tensor in state.weights.items()}
    if config.kind == "round":
        found = quantize_after_training(config, weights, runtime, lambda: watch(0))
        return *QuantizedModel.of_rounded(weights, found, config, runtime.batch(config, config.end)), found
    model = QuantizedModel(weights, quantization)
    model.restore(config.shape, state.range_starts, state.ranges)
    return model, weights, {}


def evaluate(
    config: SegmentConfig, state: State, runtime: Runtime, watch: Callable[[int], None] = lambda steps: None
) -> Evaluation:
    """Loss of a segment's end on the fixed validation set; not a number if the weights are not finite."""
    return loss_of(config, evaluated_tensors(config, state, runtime, watch), runtime)


@torch.no_grad()
def loss_of(config: SegmentConfig, tensors: list[Tensor], runtime: Runtime) -> Evaluation:
    """The same for the tensors that the model's forward function takes."""
    forward = runtime.forward(config)
    blocks = runtime.validation(config)
    losses = []
    for start in range(0, len(blocks), config.sequences):
        losses.append(forward(tensors, *tokens_and_targets(blocks[start : start + config.sequences])))
    values = torch.cat(losses).double()
    return Evaluation(loss=float(values.mean()), standard_error=float(values.std()) / math.sqrt(len(values)))
