"""The ParetoQ quantizers (Liu et al., arXiv 2502.02631 and its public code), one per bit width.

1 bit: alpha * sign(w). 1.58 and 2 bits: "stretched elastic" grids. 3 bits and more: LSQ started at max|w| / p.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from qatplan.quant.lsq import Lsq
from qatplan.quant.quantizer import SCALE_FLOOR, Quantizer, gradient_scale

CLIP = 0.99
"""Stretched grids clamp w / alpha to +-0.99, so that the outermost value never rounds to a level beyond the grid."""


def paretoq(bits: float) -> Quantizer:
    """The ParetoQ quantizer of a bit width: 1, 1.58, 2, or a whole number from 3 to 8."""
    if bits == 1:
        return Binary()
    if bits in (1.58, 2):
        return Stretched(bits)
    return Lsq(bits, start="max")


class _Sign(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, scale: Tensor, weight: float) -> Tensor:
        alpha = scale.clamp(min=SCALE_FLOOR)
        # torch.sign(0) is 0, a third level: zero counts as positive here.
        sign = torch.where(rows >= 0, 1.0, -1.0).to(rows.dtype)
        ctx.save_for_backward(rows, sign, alpha)
        ctx.weight = weight
        return sign * alpha

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,) = gradients
        rows, sign, alpha = ctx.saved_tensors
        inside = (rows.abs() <= alpha).to(gradient.dtype)
        scale_gradient = (sign * gradient).sum(dim=1, keepdim=True) * ctx.weight
        return gradient * inside, scale_gradient, None


class _StretchedGrid(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, scale: Tensor, levels: float, shift: float, weight: float) -> Tensor:
        alpha = scale.clamp(min=SCALE_FLOOR)
        ratio = rows / alpha
        level = ratio.clamp(-CLIP, CLIP).mul_(levels).sub_(shift).round_().add_(shift).div_(levels)
        ctx.save_for_backward(ratio, level)
        ctx.weight = weight
        return level * alpha

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        (gradient,) = gradients
        ratio, level = ctx.saved_tensors
        inside = (ratio.abs() <= CLIP).to(gradient.dtype)
        scale_slope = level.addcmul(ratio, inside, value=-1)
        scale_gradient = (scale_slope * gradient).sum(dim=1, keepdim=True) * ctx.weight
        return gradient * inside, scale_gradient, None, None, None


@dataclass(frozen=True)
class Binary(Quantizer):
    """alpha * sign(w), alpha started at mean|w|; the weight's gradient passes where |w / alpha| <= 1."""

    bits: float = 1.0

    @property
    def grid(self) -> tuple[float, ...]:
        return (-1.0, 1.0)

    def initial_scale(self, rows: Tensor) -> Tensor:
        return rows.detach().abs().mean(dim=1, keepdim=True).clamp(min=SCALE_FLOOR)

    def fake_quantize(self, rows: Tensor, scale: Tensor, numel: int) -> Tensor:
        result: Tensor = _Sign.apply(rows, scale, gradient_scale(numel, 1))
        return result

    def codes(self, rows: Tensor, scale: Tensor) -> Tensor:
        return (rows >= 0).long()


@dataclass(frozen=True)
class Stretched(Quantizer):
    """Ternary {0, +-2/3} (1.58 bits) or the balanced {+-1/4, +-3/4} (2 bits), times alpha started at max|w|."""

    bits: float

    @property
    def levels(self) -> float:
        return 1.5 if self.bits == 1.58 else 2.0

    @property
    def shift(self) -> float:
        return 0.0 if self.bits == 1.58 else 0.5

    @property
    def grid(self) -> tuple[float, ...]:
        if self.bits == 1.58:
            return (-1 / 1.5, 0.0, 1 / 1.5)
        return (-0.75, -0.25, 0.25, 0.75)

    def initial_scale(self, rows: Tensor) -> Tensor:
        return rows.detach().abs().amax(dim=1, keepdim=True).clamp(min=SCALE_FLOOR)

    def fake_quantize(self, rows: Tensor, scale: Tensor, numel: int) -> Tensor:
        result: Tensor = _StretchedGrid.apply(rows, scale, self.levels, self.shift, gradient_scale(numel, 1))
        return result

    def codes(self, rows: Tensor, scale: Tensor) -> Tensor:
        ratio = rows / scale.clamp(min=SCALE_FLOOR)
        level = (ratio.clamp(-CLIP, CLIP) * self.levels - self.shift).round() + self.shift
        return (level - self.grid[0] * self.levels).round().long()
