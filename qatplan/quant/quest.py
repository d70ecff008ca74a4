"""QuEST (Panferov et al., arXiv 2502.05003): a Gaussian-optimal grid in Hadamard space, and a gradient that trusts only
what was not clipped there.

Each row is rotated by Hadamard blocks, divided by its root mean square, rounded to the grid that is best for a
Gaussian, and rotated back. Nothing is learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from torch.autograd import Function

from qatplan.quant.hadamard import block_size, rotate
from qatplan.quant.quantizer import SCALE_FLOOR, Affine, Quantizer, Ranges, constant

HIGHEST = {1: 0.798, 1.58: 1.224, 2: 1.494, 3: 2.051, 4: 2.514, 5: 2.916, 6: 3.278, 7: 3.611, 8: 3.922}
"""Highest level, in root mean squares, of the evenly spaced grid with the least squared error on a Gaussian.

To 4 bits from QuEST's public code; above, computed (`tests/quant/test_quest.py` computes all)."""


class _Trusted(Function):
    """Forward: the grid. Backward: straight through for numbers within half a step of their level in Hadamard space."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, grid_step: Tensor, grid_zero: Tensor, block: int, levels: int) -> Tensor:
        free = _free_codes(rows, grid_step, grid_zero, block)
        code = free.clamp(0, levels - 1)
        ctx.save_for_backward(free.eq_(code))
        ctx.block = block
        return rotate(code.add_(grid_zero).mul_(grid_step), block)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (trusted,) = ctx.saved_tensors
        return rotate(rotate(gradients[0], ctx.block) * trusted, ctx.block), None, None, None, None


def _free_codes(rows: Tensor, step: Tensor, zero: Tensor, block: int) -> Tensor:
    """The index of each number's nearest level on a grid without ends, in Hadamard space."""
    return rotate(rows, block).div(step).sub_(zero).round_()


@dataclass(frozen=True)
class Quest(Quantizer):
    """2^B evenly spaced levels (3 at 1.58 bits), symmetric about zero, ends at `HIGHEST` root mean squares of the row.

    Codes are indices in Hadamard space: `Affine.block` says so, and `dequantize` rotates back. The step is a constant
    of the gradient.
    """

    bits: float

    parameters: ClassVar[tuple[str, ...]] = ()
    relative: ClassVar[bool] = False
    live: ClassVar[bool] = True
    symmetric: ClassVar[bool] = True

    @property
    def levels(self) -> int:
        return 3 if self.bits == 1.58 else 1 << int(self.bits)

    def start(self, rows: Tensor) -> tuple[Tensor, ...]:
        return ()

    def fake_quantize(self, rows: Tensor, ranges: Ranges, numel: int) -> Tensor:
        grid = self.affine(rows, ranges)
        result: Tensor = _Trusted.apply(rows, grid.step, grid.zero, grid.block, self.levels)
        return result

    def codes(self, rows: Tensor, ranges: Ranges) -> Tensor:
        grid = self.affine(rows, ranges)
        return _free_codes(rows.detach(), grid.step, grid.zero, grid.block).clamp_(0, self.levels - 1).long()

    def affine(self, rows: Tensor, ranges: Ranges) -> Affine:
        step = _root_mean_square(rows.detach()) * (2 * HIGHEST[self.bits] / (self.levels - 1))
        return Affine(
            step=step.clamp(min=SCALE_FLOOR),
            zero=constant(-(self.levels - 1) / 2, step),
            block=block_size(rows.shape[1]),
        )


def _root_mean_square(rows: Tensor) -> Tensor:
    """(rows, 1). The largest value is taken out first, so that no square overflows."""
    largest = rows.abs().amax(dim=1, keepdim=True).clamp(min=SCALE_FLOOR)
    return (rows / largest).square_().mean(dim=1, keepdim=True).sqrt_().mul_(largest)
