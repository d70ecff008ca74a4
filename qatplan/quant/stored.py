"""A weight as a file holds it: packed integer codes, and the step and zero of each row."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from qatplan.quant.hadamard import moved
from qatplan.quant.packing import pack, unpack
from qatplan.quant.quantizer import Affine, dequantize


@dataclass(frozen=True, kw_only=True)
class StoredWeight:
    """One quantized weight tensor."""

    shape: tuple[int, int]
    """(outputs, inputs) of the weight."""
    levels: int
    packed: Tensor
    """Codes of all rows, uint8, flat (`qatplan.quant.packing`)."""
    step: Tensor
    """(rows, 1) float32."""
    zero: Tensor
    """(rows, 1) float32, in steps; (1, 1) where all rows have the same."""
    block: int = 1
    """Size of the Hadamard blocks in which the codes lie; 1 where they are not rotated."""

    @property
    def bytes(self) -> int:
        """Bytes of codes, steps and zeros."""
        return sum(t.numel() * t.element_size() for t in (self.packed, self.step, self.zero))

    def codes(self) -> Tensor:
        """Integer codes (rows, row size), uint8; each row shares a step."""
        count = self.shape[0] * self.shape[1]
        return unpack(self.packed, self.levels, count).view(self.step.shape[0], -1)

    def weight(self, block: int = 1) -> Tensor:
        """The weight that the codes stand for, (outputs, inputs) float32, rotated by Hadamard blocks of its inputs."""
        rows = dequantize(self.codes(), Affine(step=self.step, zero=self.zero))
        return moved(rows, self.shape, self.block, block)


def store(codes: Tensor, grid: Affine, *, shape: tuple[int, int], levels: int) -> StoredWeight:
    """Pack the codes (rows, size) of a weight and keep the grid of its rows."""
    step, zero = grid.step.float().expand(codes.shape[0], 1).contiguous(), grid.zero.float()
    if bool((zero == zero[:1]).all()):
        zero = zero[:1]
    return StoredWeight(
        shape=shape, levels=levels, packed=pack(codes, levels), step=step, zero=zero.contiguous(), block=grid.block
    )
