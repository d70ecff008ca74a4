"""QuEST (Panferov et al., arXiv 2502.05003): a Gaussian-optimal grid in Hadamard space, and a gradient that trusts only
what was not clipped there.

Each row, rotated by Hadamard blocks, is divided by its root mean square and rounded to the grid that is best for a
Gaussian. Nothing is learned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as functional
from torch import Tensor
from torch.autograd import Function

from qatplan.quant.quantizer import SCALE_FLOOR, Affine, Quantizer, Ranges, constant

HIGHEST = {1: 0.798, 1.58: 1.224, 2: 1.494, 3: 2.051, 4: 2.514, 5: 2.916, 6: 3.278, 7: 3.611, 8: 3.922}
"""Highest level, in root mean squares, of the evenly spaced grid with the least squared error on a Gaussian.

To 4 bits from QuEST's public code; above, computed (all are in `tests/quant/test_quest_quantizer.py`)."""


def _on_grid(rows: Tensor, step: Tensor, levels: int) -> Tensor:
    """Forward: the grid. Backward: straight through for numbers less than half a step beyond its ends.

    Autograd is shown a copy that is clamped, and not what is done to it in place. A `Function` says the same, and in
    Python takes as long as all these passes over a small tensor.
    """
    if torch.compiler.is_compiling():
        compiled: Tensor = _ForCompilers.apply(rows, step, levels)
        return compiled
    steps = rows.clone()
    with torch.no_grad():
        steps.div_(step)
    inside = functional.hardtanh(steps, -levels / 2, levels / 2)
    with torch.no_grad():
        # Half a step beyond the last level the next would be as near.
        _to_levels(inside, levels).clamp_(_zero(levels), -_zero(levels)).mul_(step)
    return inside


class _ForCompilers(Function):
    """The same in arithmetic: compilers store comparisons as booleans, as slowly as ten passes over floats."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, step: Tensor, levels: int) -> Tensor:
        free = _to_levels(rows / step, levels)
        ctx.save_for_backward(free)
        ctx.highest = -_zero(levels)
        return free.clamp(-ctx.highest, ctx.highest) * step

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,), (free,) = gradients, ctx.saved_tensors
        clipped = (free - free.clamp(-ctx.highest, ctx.highest)).abs().clamp(max=1)
        return gradient * (1 - clipped), None, None


def _zero(levels: int) -> float:
    """The lowest of so many levels about zero, in steps."""
    return -(levels - 1) / 2


def _to_levels(steps: Tensor, levels: int) -> Tensor:
    """Numbers in steps moved, in place, to the nearest level of a grid without ends: halves, or whole ones if odd."""
    return steps.round_() if levels % 2 else steps.floor_().add_(0.5)


def _norms(rows: Tensor) -> Tensor:
    """(rows, 1) norms, of huge rows in float64, where no square of a float32 overflows."""
    norm = partial(torch.linalg.vector_norm, rows, dim=1, keepdim=True)
    if rows.device.type != "cpu" or rows.dtype == torch.float64 or torch.compiler.is_compiling():
        exact: Tensor = norm(dtype=torch.float64)
        return exact
    # Without a compiler float64 is a copy of the rows, and takes as long as all else that finds their step.
    found: Tensor = norm(dtype=torch.float32)
    if math.isfinite(float(found.sum())):
        return found
    return torch.where(found.isinf(), norm(dtype=torch.float64), found)


@dataclass(frozen=True)
class Quest(Quantizer):
    """2^B evenly spaced levels (3 at 1.58 bits), symmetric about zero, ends at `HIGHEST` root mean squares of the row.

    The step is a constant of the gradient.
    """

    live: ClassVar[bool] = True
    rotates: ClassVar[bool] = True

    def fake_quantize(self, rows: Tensor, ranges: Ranges, numel: int) -> Tensor:
        return _on_grid(rows, self._step(rows), self.levels)

    def codes(self, rows: Tensor, ranges: Ranges) -> Tensor:
        free = _to_levels(rows.detach() / self._step(rows), self.levels).sub_(_zero(self.levels))
        return free.clamp_(0, self.levels - 1).long()

    def affine(self, rows: Tensor, ranges: Ranges) -> Affine:
        step = self._step(rows)
        return Affine(step=step, zero=constant(_zero(self.levels), step))

    def _step(self, rows: Tensor) -> Tensor:
        share = 2 * HIGHEST[self.bits] / (self.levels - 1) / math.sqrt(rows.shape[1])
        return _norms(rows.detach()).mul_(share).to(rows.dtype).clamp_(min=SCALE_FLOOR)
