"""The quantizers of one model in training: one per matrix, one per linear layer's input, and their learned ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qatplan.quant import registry
from qatplan.quant.hadamard import rotate
from qatplan.quant.quantizer import Quantizer, hadamard_block
from qatplan.quant.registry import ActivationGranularity
from qatplan.quant.weight import LearnedRanges, QuantizedWeight, RoundedWeight
from qatplan.training.model.decoder import SITES, Feed, make_forward, unchanged
from qatplan.training.segment import Activation, Quantization, SegmentConfig
from qatplan.training.shape import Shape

NEVER_QUANTIZED = ("norm", "attention_norm", "feed_forward_norm")


def is_quantized(name: str) -> bool:
    """Whether the weight called `name` is quantized at all: every matrix is, norms are not."""
    return name.split(".")[-1] not in NEVER_QUANTIZED


def quantizer_of(name: str, quantization: Quantization) -> Quantizer:
    """The quantizer of the weight called `name`; the tied embedding has bits of its own."""
    bits = quantization.embedding_bits if name == "embedding" else quantization.bits
    return registry.create(quantization.quantizer, bits)


@dataclass(frozen=True)
class ActivationQuantizer:
    """A quantizer of activations (..., features).

    Per tensor, one set of range parameters serves all values, learned or following the live values. Per token every
    token has a range of its own, which must follow the live values (`Quantizer.live`); its parameters, if it has any,
    are shared by all tokens.

    Activations stay in the space of the grid. Where that is Hadamard space, the weight they meet is to be rotated by
    the same `block`: x W^T = (x H) (W H)^T, and of the two the weight is the smaller.
    """

    quantizer: Quantizer
    granularity: ActivationGranularity

    def start(self, x: Tensor) -> tuple[Tensor, ...]:
        """Where the parameters start, each (1, 1), from a first batch of activations."""
        return tuple(value.mean(dim=0, keepdim=True) for value in self.quantizer.start(self._rows(x.detach())))

    def fake(self, x: Tensor, ranges: Sequence[Tensor]) -> Tensor:
        """The activations on their grid, in its space, differentiable in them and in the ranges."""
        return self.quantizer.fake_quantize(self._rows(x), ranges, x.shape[-1]).view_as(x)

    def block(self, features: int) -> int:
        """By which Hadamard blocks so many features are rotated, and so must be what they are multiplied with."""
        return hadamard_block(self.quantizer, features)

    def _rows(self, x: Tensor) -> Tensor:
        rows = rotate(x.reshape(-1, x.shape[-1]), self.block(x.shape[-1]))
        return rows.reshape(1, -1) if self.granularity == "tensor" else rows


def activation_quantizer(activation: Activation | None) -> ActivationQuantizer | None:
    """The quantizer of a segment's activations, if they are quantized."""
    if activation is None:
        return None
    return ActivationQuantizer(registry.create(activation.quantizer, activation.bits), activation.granularity)


def activation_feed(quantizer: ActivationQuantizer | None) -> Feed:
    """What quantizes the input of each linear layer; its ranges are the last tensors the model is given."""
    if quantizer is None:
        return unchanged
    count = len(quantizer.quantizer.parameters)

    def quantize(x: Tensor, site: int, ranges: Sequence[Tensor]) -> Tensor:
        return quantizer.fake(x, ranges[site * count : (site + 1) * count])

    return quantize


def input_block(name: str, features: int, activation: ActivationQuantizer | None) -> int:
    """By which Hadamard blocks the input of the weight called `name` is rotated, and so must be the weight."""
    return 1 if activation is None or name.split(".")[-1] not in SITES else activation.block(features)


class QuantizedModel:
    """Turns the weights in training into what the model computes with."""

    def __init__(self, weights: Mapping[str, Tensor], quantization: Quantization, *, rounded: bool = False) -> None:
        self.weights = {
            name: QuantizedWeight(weight, quantizer_of(name, quantization), quantization.group_size)
            for name, weight in weights.items()
            if is_quantized(name) and not rounded
        }
        """By name; empty where the weights come `rounded` already."""
        self.activation = activation_quantizer(quantization.activation)
        self.inputs: dict[str, LearnedRanges] = {}
        """Ranges of the linear layers' inputs, by site; empty without quantized activations."""

    def tensors(self, weights: Mapping[str, Tensor]) -> list[Tensor]:
        """What `make_forward` takes: the weights on their grids, each rotated as its input is, and the input ranges."""
        return self.rotated(weights) + self.input_ranges()

    def rotated(self, weights: Mapping[str, Tensor]) -> list[Tensor]:
        """The weights, on their grids unless they came rounded, each rotated as its input is."""
        blocks = {name: input_block(name, weight.shape[-1], self.activation) for name, weight in weights.items()}
        return [
            self.weights[name].fake(weight, blocks[name])
            if name in self.weights
            else rotate(weight.view_as(weight), blocks[name])
            for name, weight in weights.items()
        ]

    def input_ranges(self) -> list[Tensor]:
        """The ranges of the activations in the order the model takes them, differentiable in what is learned."""
        return [value for ranges in self.inputs.values() for value in ranges.current()]

    @torch.no_grad()
    def calibrate(self, weights: Mapping[str, Tensor], shape: Shape, tokens: Tensor, targets: Tensor) -> None:
        """Start the activations' ranges from one batch; nothing to do without quantized activations."""
        if self.activation is None:
            return
        quantizer = self.activation
        found: list[tuple[Tensor, ...]] = []

        def record(x: Tensor, site: int, ranges: Sequence[Tensor]) -> Tensor:
            found.append(quantizer.start(x))
            return quantizer.fake(x, found[-1])

        forward = make_forward(shape, tokens.shape[1], tokens.device, record)
        forward(self.tensors(weights), tokens, targets)
        self.inputs = {
            name: LearnedRanges(quantizer.quantizer, starts)
            for name, starts in zip(site_names(shape), found, strict=True)
        }

    @classmethod
    def of_rounded(
        cls, weights: Mapping[str, Tensor], found: Mapping[str, RoundedWeight], config: SegmentConfig,
        batch: tuple[Tensor, Tensor],
    ) -> tuple[QuantizedModel, dict[str, Tensor]]:  # fmt: skip
        """A `round` segment's model and weights, `found` in the place of those they are of, calibrated on a batch."""
        assert config.quantization is not None
        values = {name: found[name].values() if name in found else weight for name, weight in weights.items()}
        model = cls(values, config.quantization, rounded=True)
        model.calibrate(values, config.shape, *batch)
        return model, values

    def learned(self) -> dict[str, nn.Parameter]:
        """Every learned range parameter by name: `blocks.0.down:scale`, `blocks.0.down.input:scale`."""
        return {f"{tensor}:{name}": value for tensor, r in self._ranges() for name, value in r.learned.items()}

    def freeze_weights(self) -> None:
        """Keep the ranges of the weights where they are; those of activations go on being learned."""
        for weight in self.weights.values():
            for value in weight.ranges.learned.values():
                value.requires_grad_(False)

    def starts(self) -> dict[str, Tensor]:
        """Where each of them started, in its own unit."""
        return {f"{tensor}:{name}": value for tensor, r in self._ranges() for name, value in r.starts.items()}

    def restore(self, shape: Shape, starts: Mapping[str, Tensor], learned: Mapping[str, Tensor]) -> None:
        """Take over the ranges of a saved state."""
        if self.activation is not None:
            names = self.activation.quantizer.parameters
            self.inputs = {
                site: LearnedRanges(self.activation.quantizer, [starts[f"{site}:{name}"].clone() for name in names])
                for site in site_names(shape)
            }
        for tensor, ranges in self._ranges():
            ranges.restore(*({name: of[f"{tensor}:{name}"] for name in ranges.learned} for of in (starts, learned)))

    def _ranges(self) -> list[tuple[str, LearnedRanges]]:
        return [*((name, weight.ranges) for name, weight in self.weights.items()), *self.inputs.items()]


def site_names(shape: Shape) -> list[str]:
    """The places where activations are quantized, in the order the model meets them."""
    return [f"blocks.{layer}.{tensor}.input" for layer in range(shape.layers) for tensor in SITES]
