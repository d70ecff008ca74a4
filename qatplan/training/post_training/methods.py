"""Quantization after training: each method turns a trained model's matrices into codes. The f = 0 end of a curve.

The tied embedding and head is rounded to nearest at bits of its own by every method. Activations, where they are
quantized, keep the ranges that one batch of training text starts them with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from qatplan.quant import registry
from qatplan.quant.weight import RoundedWeight, rounded, rounded_by_row, rows_of
from qatplan.training.model.decoder import BLOCK_TENSORS, make_block
from qatplan.training.model.quantized import QuantizedModel, activation_feed, is_quantized, quantizer_of
from qatplan.training.post_training.adaround import LearnedRounding, learn_rounding
from qatplan.training.recipes import RECIPES, AdaRound, MixedWidths
from qatplan.training.runtime import Runtime
from qatplan.training.segment import Quantization, SegmentConfig

Weights = Mapping[str, Tensor]


def quantize_after_training(
    config: SegmentConfig, weights: Weights, runtime: Runtime, watch: Callable[[], None] = lambda: None
) -> dict[str, RoundedWeight]:
    """Every matrix of a trained model as codes, by name, with the method that a `round` segment names.

    A function of the configuration, the weights and the corpus: repeating it gives the same bits. `watch` is called
    now and then.
    """
    quantization = config.quantization
    assert quantization is not None
    match RECIPES[quantization.post_training]:
        case AdaRound() as recipe:
            return _reconstructed(config, quantization, weights, runtime, recipe, watch)
        case MixedWidths() as recipe:
            return _mixed(config, quantization, weights, runtime, recipe)
        case None:
            return _nearest(quantization, weights)


def _nearest(quantization: Quantization, weights: Weights) -> dict[str, RoundedWeight]:
    return {
        name: rounded(weight, quantizer_of(name, quantization), quantization.group_size)
        for name, weight in weights.items()
        if is_quantized(name)
    }


def _matrices(weights: Weights) -> Weights:
    """The decoder's matrices without the embedding."""
    return {name: weight for name, weight in weights.items() if is_quantized(name) and name != "embedding"}


def _reconstructed(
    config: SegmentConfig, quantization: Quantization, weights: Weights, runtime: Runtime, recipe: AdaRound,
    watch: Callable[[], None],
) -> dict[str, RoundedWeight]:  # fmt: skip
    """AdaRound, started from rounding to nearest."""
    found = _nearest(quantization, weights)
    levels = registry.create(quantization.quantizer, quantization.bits).levels
    roundings = {
        name: LearnedRounding(rows_of(weight, quantization.group_size), found[name].grid, levels)
        for name, weight in _matrices(weights).items()
    }
    model, values = QuantizedModel.of_rounded(weights, found, config, runtime.batch(config, config.end))
    block = make_block(config.shape, config.sequence, runtime.device, activation_feed(model.activation))

    def quantized(tensors: list[Tensor], stream: Tensor, layer: int, ranges: Sequence[Tensor]) -> Tensor:
        return block(model.rotated(dict(zip(BLOCK_TENSORS, tensors, strict=True))), stream, layer, ranges)

    learn_rounding(
        weights, roundings, values["embedding"], full=make_block(config.shape, config.sequence, runtime.device),
        quantized=quantized, ranges=[value.detach() for value in model.input_ranges()],
        tokens=calibration_tokens(config, runtime, recipe.calibration_tokens), recipe=recipe, seed=config.seed,
        watch=watch,
    )  # fmt: skip
    return found | {name: replace(found[name], codes=rounding.codes()) for name, rounding in roundings.items()}


def _mixed(
    config: SegmentConfig, quantization: Quantization, weights: Weights, runtime: Runtime, recipe: MixedWidths
) -> dict[str, RoundedWeight]:
    """Importance-based mixed precision, each row rounded to nearest at the bits its neuron gets, at a fixed average.

    After Yvinec, Dapogny and Bailly (arXiv 2308.07662), whose procedure is not public to us [open]. Ours: the most
    important share of neurons gets one bit more than the average, the least important share of the same size one less.
    """
    found = _nearest(quantization, {"embedding": weights["embedding"]})
    importance = measured_importance(config, weights, runtime, recipe.calibration_tokens)
    extra = extra_bits(importance, {name: weights[name].shape[1] for name in importance}, recipe.share)
    quantizers = {step: registry.create(quantization.quantizer, quantization.bits + step) for step in (-1, 0, 1)}
    return found | {
        name: rounded_by_row(weights[name], quantizers, choice.to(weights[name].device), quantization.group_size)
        for name, choice in extra.items()
    }


@torch.enable_grad()  # type: ignore[untyped-decorator]
def measured_importance(config: SegmentConfig, weights: Weights, runtime: Runtime, tokens: int) -> dict[str, Tensor]:
    """Importance of each output neuron of the decoder's matrices, by name, (outputs,).

    The gradient is the full-precision model's, batch by batch; the importance is the sum over the batches.
    """
    forward = runtime.forward(replace(config, quantization=None))
    leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    matrices = _matrices(weights)
    importance = {name: torch.zeros(len(weight), device=weight.device) for name, weight in matrices.items()}
    for inputs, targets in calibration_batches(config, runtime, tokens):
        loss = forward([leaf.view_as(leaf) for leaf in leaves.values()], inputs, targets).mean()
        gradients = torch.autograd.grad(loss, [leaves[name] for name in matrices])
        for name, gradient in zip(matrices, gradients, strict=True):
            importance[name] += neuron_importance(weights[name], gradient)
    return importance


def neuron_importance(weight: Tensor, gradient: Tensor) -> Tensor:
    """Sum of |w dL/dw| over each output neuron of a weight (outputs, inputs); shape (outputs,)."""
    return (weight.detach() * gradient).abs().sum(dim=1)


def extra_bits(importance: Mapping[str, Tensor], inputs: Mapping[str, int], share: float) -> dict[str, Tensor]:
    """-1, 0 or 1 for each output neuron of each matrix, shape (outputs,), int8.

    Neurons of all matrices with the same number of inputs compete, so that as many weights gain a bit as lose one
    and the average is exact. Equal importance is ranked by place.
    """
    extra = {name: torch.zeros(len(values), dtype=torch.int8) for name, values in importance.items()}
    for size in sorted(set(inputs.values())):
        names = [name for name in importance if inputs[name] == size]
        order = torch.cat([importance[name].cpu() for name in names]).argsort(stable=True)
        moved = int(share * len(order))
        ranked = torch.zeros(len(order), dtype=torch.int8)
        ranked[order[:moved]] = -1
        ranked[order[len(order) - moved :]] = 1
        for name, part in zip(names, ranked.split([len(importance[name]) for name in names]), strict=True):
            extra[name] = part
    return extra


def calibration_batches(config: SegmentConfig, runtime: Runtime, tokens: int) -> list[tuple[Tensor, Tensor]]:
    """At least `tokens` tokens of training text, never of validation text, as batches of (tokens, targets).

    They are the next batches of the trunk's own data order after the segment's end, so they depend on the seed alone
    and are text the model has not seen in this epoch. The first is the one that starts the activations' ranges.
    """
    batches = math.ceil(tokens / (config.sequences * config.sequence))
    return [runtime.batch(config, config.end + number) for number in range(batches)]


def calibration_tokens(config: SegmentConfig, runtime: Runtime, tokens: int) -> Tensor:
    """The same as one tensor of tokens (sequences, sequence)."""
    return torch.cat([batch for batch, _ in calibration_batches(config, runtime, tokens)])
