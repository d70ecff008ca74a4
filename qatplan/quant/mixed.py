"""A weight whose output channels have bit widths of their own, as a file holds it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qatplan.quant.quantizer import Affine
from qatplan.quant.stored import StoredWeight, store


@dataclass(frozen=True, kw_only=True)
class MixedWeight:
    """One weight tensor in parts, each of the output channels that share a bit width."""

    shape: tuple[int, int]
    """(outputs, inputs) of the weight."""
    widths: Tensor
    """Bits of each output channel, (outputs,) uint8."""
    parts: dict[int, StoredWeight]
    """By bit width, the output channels of that width in their order."""

    @property
    def bytes(self) -> int:
        """Bytes of all parts and of the table of widths."""
        return self.widths.numel() + sum(part.bytes for part in self.parts.values())

    def weight(self, block: int = 1) -> Tensor:
        """The weight that the codes stand for, (outputs, inputs) float32, rotated by Hadamard blocks of its inputs."""
        weight = torch.empty(self.shape, device=self.widths.device)
        for bits, part in self.parts.items():
            weight[self.widths == bits] = part.weight(block)
        return weight


def store_mixed(codes: Tensor, grid: Affine, bits: Tensor, *, shape: tuple[int, int]) -> MixedWeight:
    """Pack the codes (rows, size) of a weight at the `bits` (rows, 1) of each row.

    Rows that belong to one output channel have the same whole number of bits.
    """
    rows_each = len(codes) // shape[0]
    widths = bits.view(shape[0], rows_each)[:, 0].to(torch.uint8)
    parts = {}
    for width in sorted(set(widths.tolist())):
        mine = widths == width
        rows = mine.repeat_interleave(rows_each)
        own = Affine(step=grid.step[rows], zero=grid.zero[rows], block=grid.block)
        parts[width] = store(codes[rows], own, shape=(int(mine.sum()), shape[1]), levels=1 << width)
    return MixedWeight(shape=shape, widths=widths, parts=parts)
