"""A quantized weight: how a tensor is cut into rows that share a range, and the learned range of each row."""

from __future__ import annotations

from torch import Tensor

from qatplan.errors import UsageError
from qatplan.quant.quantizer import Affine, Quantizer, dequantize
from qatplan.quant.ranges import LearnedRanges
from qatplan.quant.registry import GroupSize
from qatplan.quant.rounding import round_to_nearest


def rows_of(weight: Tensor, group_size: GroupSize) -> Tensor:
    """The weight (outputs, inputs) as rows that share a range."""
    if group_size is None:
        return weight
    if group_size == "tensor":
        return weight.reshape(1, -1)
    if weight.shape[1] % group_size:
        raise UsageError(f"group size {group_size} does not divide the {weight.shape[1]} inputs of a weight.")
    return weight.reshape(-1, group_size)


def rounded(weight: Tensor, quantizer: Quantizer, group_size: GroupSize) -> Tensor:
    """The weight rounded to nearest with the least-squares step of each row (quantization after training)."""
    codes, grid = round_to_nearest(rows_of(weight, group_size), quantizer)
    return dequantize(codes, grid).view_as(weight)


class QuantizedWeight:
    """Fake-quantizes one weight tensor, with ranges that are learned beside it."""

    def __init__(self, weight: Tensor, quantizer: Quantizer, group_size: GroupSize) -> None:
        self.quantizer = quantizer
        self.group_size = group_size
        self.ranges = LearnedRanges(quantizer, quantizer.start(rows_of(weight.detach(), group_size)))

    def fake(self, weight: Tensor) -> Tensor:
        """The weight on its grid, differentiable in the weight and the ranges."""
        rows = rows_of(weight, self.group_size)
        return self.quantizer.fake_quantize(rows, self.ranges.current(), weight.numel()).view_as(weight)

    def codes(self, weight: Tensor) -> tuple[Tensor, Affine]:
        """Integer codes of the weight, shape (rows, row size), and the grid of each row."""
        rows = rows_of(weight.detach(), self.group_size)
        ranges = [value.detach() for value in self.ranges.current()]
        return self.quantizer.codes(rows, ranges), self.quantizer.affine(rows, ranges)
