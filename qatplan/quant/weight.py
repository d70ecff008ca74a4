"""A quantized weight: how a tensor is cut into rows, and the learned scale of each row."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qatplan.errors import UsageError
from qatplan.quant.quantizer import Quantizer
from qatplan.quant.rounding import least_squares_scale, nearest


def rows_of(weight: Tensor, group_size: int | None) -> Tensor:
    """The weight (outputs, inputs) as rows that share a scale: one per output channel, or per group of inputs."""
    if group_size is None:
        return weight
    if weight.shape[1] % group_size:
        raise UsageError(f"group size {group_size} does not divide the {weight.shape[1]} inputs of a weight.")
    return weight.reshape(-1, group_size)


def rounded(weight: Tensor, quantizer: Quantizer, group_size: int | None) -> Tensor:
    """The weight rounded to nearest with the least-squares scale of each row (quantization after training)."""
    rows = rows_of(weight.detach(), group_size)
    scale = least_squares_scale(rows, quantizer)
    return nearest(rows, scale, quantizer.grid).view_as(weight)


class QuantizedWeight(nn.Module):
    """Fake-quantizes one weight tensor; its only parameter is the scale of each row relative to where it started.

    Learning the ratio instead of the scale makes an Adam step the same relative change of the range at every bit
    width; learning a step size in weight units moves the range by 2^(B-1) as much, which is unstable at 6 bits for
    the learning rates of small models.
    """

    initial: Tensor

    def __init__(self, weight: Tensor, quantizer: Quantizer, group_size: int | None) -> None:
        super().__init__()
        self.quantizer = quantizer
        self.group_size = group_size
        scale = quantizer.initial_scale(rows_of(weight, group_size))
        self.register_buffer("initial", scale)
        self.ratio = nn.Parameter(torch.ones_like(scale))

    def scale(self) -> Tensor:
        """The scale of each row in weight units, shape (rows, 1)."""
        return self.initial * self.ratio

    def forward(self, weight: Tensor) -> Tensor:
        """The weight on its grid, differentiable in the weight and the scales."""
        rows = rows_of(weight, self.group_size)
        return self.quantizer.fake_quantize(rows, self.scale(), weight.numel()).view_as(weight)

    def codes(self, weight: Tensor) -> Tensor:
        """Integer codes of the weight, shape (rows, row size)."""
        return self.quantizer.codes(rows_of(weight.detach(), self.group_size), self.scale().detach())
