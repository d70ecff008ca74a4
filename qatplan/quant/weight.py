"""A quantized weight: how a tensor is cut into rows that share a range, and the learned range of each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from qatplan.errors import UsageError
from qatplan.quant.hadamard import moved, rotate
from qatplan.quant.quantizer import Affine, Quantizer, Ranges, dequantize, hadamard_block
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


@dataclass(frozen=True, kw_only=True)
class RoundedWeight:
    """One weight as codes."""

    codes: Tensor
    """(rows, row size), integers held in the type of the weight."""
    grid: Affine
    bits: float | Tensor
    """Nominal bits of all codes, or of each row's, (rows, 1)."""
    shape: torch.Size

    def values(self) -> Tensor:
        """The weight on its grid, (outputs, inputs)."""
        return dequantize(self.codes, self.grid).view(self.shape)


def rounded(weight: Tensor, quantizer: Quantizer, group_size: GroupSize) -> RoundedWeight:
    """The weight rounded to nearest with the least-squares range of each row."""
    codes, grid = round_to_nearest(rows_of(weight, group_size), quantizer)
    return RoundedWeight(codes=codes, grid=grid, bits=quantizer.bits, shape=weight.shape)


def rounded_by_row(
    weight: Tensor, quantizers: Mapping[int, Quantizer], choice: Tensor, group_size: GroupSize
) -> RoundedWeight:
    """The same where each output neuron has a quantizer of its own: the one that `choice` (outputs,) is the key of."""
    rows = rows_of(weight, group_size)
    choice = choice.repeat_interleave(len(rows) // len(weight))
    codes = torch.zeros_like(rows)
    step, zero, bits = (torch.zeros_like(rows[:, :1]) for _ in range(3))
    block = 1
    for key, quantizer in quantizers.items():
        mine = choice == key
        codes[mine], grid = round_to_nearest(rows[mine], quantizer)
        step[mine], zero[mine], bits[mine] = grid.step, grid.zero, quantizer.bits
        # The same for all: a matter of the row's size.
        block = grid.block
    return RoundedWeight(codes=codes, grid=Affine(step=step, zero=zero, block=block), bits=bits, shape=weight.shape)


class LearnedRanges:
    """Range parameters by name, learned as the quantizer says: as a ratio to their start, or as they are.

    Learning the ratio instead of a scale makes an Adam step the same relative change of the range at every bit width;
    learning a step size in weight units moves the range by 2^(B-1) as much, which is unstable at 6 bits for the
    learning rates of small models.
    """

    def __init__(self, quantizer: Quantizer, starts: Sequence[Tensor]) -> None:
        self.quantizer = quantizer
        self.starts = dict(zip(quantizer.parameters, starts, strict=True))
        self.learned = {
            name: nn.Parameter(torch.ones_like(start) if quantizer.relative else start.clone())
            for name, start in self.starts.items()
        }

    def current(self) -> list[Tensor]:
        """The parameters in their own units, differentiable in what is learned."""
        if self.quantizer.relative:
            return [self.starts[name] * value for name, value in self.learned.items()]
        return list(self.learned.values())

    @torch.no_grad()
    def restore(self, starts: dict[str, Tensor], learned: dict[str, Tensor]) -> None:
        """Take over the tensors that a saved state has under the parameters' names."""
        for name, value in self.learned.items():
            self.starts[name].copy_(starts[name])
            value.copy_(learned[name])


class QuantizedWeight:
    """Fake-quantizes one weight tensor, with ranges that are learned beside it."""

    def __init__(self, weight: Tensor, quantizer: Quantizer, group_size: GroupSize) -> None:
        self.quantizer = quantizer
        self.group_size = group_size
        rows, _ = _turned(rows_of(weight.detach(), group_size), quantizer)
        self.ranges = LearnedRanges(quantizer, quantizer.start(rows))

    def fake(self, weight: Tensor, block: int = 1) -> Tensor:
        """The weight on its grid, rotated by Hadamard blocks of `block` inputs; differentiable in weight and ranges."""
        rows = rows_of(weight, self.group_size)
        return _on_grid(rows, self.quantizer, self.ranges.current(), weight.numel(), weight.shape, block)

    def rounded(self, weight: Tensor) -> RoundedWeight:
        """The weight as integer codes on the learned grid."""
        rows, block = _turned(rows_of(weight.detach(), self.group_size), self.quantizer)
        ranges = [value.detach() for value in self.ranges.current()]
        grid = replace(self.quantizer.affine(rows, ranges), block=block)
        return RoundedWeight(
            codes=self.quantizer.codes(rows, ranges), grid=grid, bits=self.quantizer.bits, shape=weight.shape
        )


def fake_stack(quantized: Sequence[QuantizedWeight], weights: Sequence[Tensor], block: int = 1) -> Tensor:
    """What `fake` returns, stacked in a new first dimension; shapes, quantizers and groups are the same.

    Rows know nothing of each other, so those of all tensors go through one call.
    """
    first, shape = quantized[0], weights[0].shape
    rows = torch.cat([rows_of(weight, first.group_size) for weight in weights])
    ranges = [torch.cat(values) for values in zip(*(own.ranges.current() for own in quantized), strict=True)]
    return _on_grid(rows, first.quantizer, ranges, shape.numel(), torch.Size((len(weights), *shape)), block)


def _turned(rows: Tensor, quantizer: Quantizer) -> tuple[Tensor, int]:
    """The rows in the space of the quantizer's grid, and the blocks by which they were rotated into it."""
    block = hadamard_block(quantizer, rows.shape[1])
    return rotate(rows, block), block


def _on_grid(rows: Tensor, quantizer: Quantizer, ranges: Ranges, numel: int, shape: torch.Size, wanted: int) -> Tensor:
    """The rows on their grid, as `shape`, rotated by the `wanted` Hadamard blocks of the last dimension."""
    turned, block = _turned(rows, quantizer)
    return moved(quantizer.fake_quantize(turned, ranges, numel), shape, block, wanted)
