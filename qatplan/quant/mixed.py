"""A weight whose output channels or groups have bit widths of their own, as a file holds it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qatplan.quant.quantizer import Affine
from qatplan.quant.stored import StoredWeight, store


@dataclass(frozen=True, kw_only=True)
class MixedWeight:
    """One weight tensor in parts, each of the rows that share a bit width."""

    shape: tuple[int, int]
    """(outputs, inputs) of the weight."""
    widths: Tensor
    """Bits of each row, (rows,) uint8."""
    parts: dict[int, StoredWeight]
    """By bit width, the rows of that width in their order."""

    @property
    def bytes(self) -> int:
        """Bytes of all parts and of the table of widths."""
        return self.widths.numel() + sum(part.bytes for part in self.parts.values())

    def weight(self) -> Tensor:
        """The weight that the codes stand for, (outputs, inputs) float32."""
        size = self.shape[0] * self.shape[1] // len(self.widths)
        rows = torch.empty(len(self.widths), size, device=self.widths.device)
        for bits, part in self.parts.items():
            rows[self.widths == bits] = part.weight()
        return rows.view(self.shape)


def store_mixed(codes: Tensor, grid: Affine, bits: Tensor, *, shape: tuple[int, int]) -> MixedWeight:
    """Pack the codes (rows, size) of a weight, each row at its whole number of `bits` (rows, 1)."""
    widths = bits.view(-1).to(torch.uint8)
    parts = {}
    for width in sorted(set(widths.tolist())):
        mine = widths == width
        own = Affine(step=grid.step[mine], zero=grid.zero[mine], block=grid.block)
        parts[width] = store(codes[mine], own, shape=(int(mine.sum()), codes.shape[1]), levels=1 << width)
    return MixedWeight(shape=shape, widths=widths, parts=parts)
