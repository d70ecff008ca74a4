"""The ParetoQ quantizers (Liu et al., arXiv 2502.02631 and its public code), one per bit width.

1 bit: alpha * sign(w). 1.58 and 2 bits: "stretched elastic" grids. 3 bits and more: LSQ started at max|w| / p.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from torch.autograd import Function

from qatplan.quant.lsq import Lsq
from qatplan.quant.quantizer import SCALE_FLOOR, Affine, Quantizer, Ranges, constant, gradient_scale, summed_to

CLIP = 0.99
"""Stretched grids clamp w / alpha to +-0.99, so that the outermost value never rounds to a level beyond the grid."""


def paretoq(bits: float) -> Quantizer:
    """The ParetoQ quantizer of a bit width: 1, 1.58, 2, or a whole number from 3 to 8."""
    if bits == 1:
        return Binary(bits)
    if bits in (1.58, 2):
        return Stretched(bits)
    return Lsq(bits, first="max")


class _Sign(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, scale: Tensor, weight: float) -> Tensor:
        alpha = scale.clamp(min=SCALE_FLOOR)
        # torch.sign(0) is 0, a third level: zero counts as positive here.
        sign = rows.clone().ge_(0).mul_(2).sub_(1)
        ctx.save_for_backward(rows, sign, alpha)
        ctx.weight = weight
        return sign * alpha

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,) = gradients
        rows, sign, alpha = ctx.saved_tensors
        inside = rows.abs().le_(alpha)
        scale_gradient = summed_to(sign * gradient, alpha.shape) * ctx.weight
        return inside.mul_(gradient), scale_gradient, None


class _StretchedGrid(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, scale: Tensor, levels: float, shift: float, weight: float) -> Tensor:
        alpha = scale.clamp(min=SCALE_FLOOR)
        ratio = rows / alpha
        level = ratio.clamp(-CLIP, CLIP).mul_(levels).sub_(shift).round_().add_(shift).div_(levels)
        ctx.save_for_backward(ratio, level)
        ctx.scale = (weight, scale.shape)
        return level * alpha

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        (gradient,) = gradients
        ratio, level = ctx.saved_tensors
        weight, shape = ctx.scale
        inside = ratio.abs().le_(CLIP)
        scale_slope = level.addcmul(ratio, inside, value=-1)
        scale_gradient = summed_to(scale_slope.mul_(gradient), shape) * weight
        return inside.mul_(gradient), scale_gradient, None, None, None


@dataclass(frozen=True)
class Binary(Quantizer):
    """alpha * sign(w), alpha started at mean|w|; the weight's gradient passes where |w / alpha| <= 1."""

    parameters: ClassVar[tuple[str, ...]] = ("scale",)
    relative: ClassVar[bool] = True

    def start(self, rows: Tensor) -> tuple[Tensor, ...]:
        return (rows.detach().abs().mean(dim=1, keepdim=True).clamp(min=SCALE_FLOOR),)

    def fake_quantize(self, rows: Tensor, ranges: Ranges, numel: int) -> Tensor:
        result: Tensor = _Sign.apply(rows, ranges[0], gradient_scale(numel, 1))
        return result

    def codes(self, rows: Tensor, ranges: Ranges) -> Tensor:
        return (rows >= 0).long()

    def affine(self, rows: Tensor, ranges: Ranges) -> Affine:
        (scale,) = ranges
        return Affine(step=2 * scale.clamp(min=SCALE_FLOOR), zero=constant(-0.5, scale))


@dataclass(frozen=True)
class Stretched(Quantizer):
    """Ternary {0, +-2/3} (1.58 bits) or the balanced {+-1/4, +-3/4} (2 bits), times alpha started at max|w|."""

    parameters: ClassVar[tuple[str, ...]] = ("scale",)
    relative: ClassVar[bool] = True

    @property
    def shift(self) -> float:
        """What is taken off before rounding, so that two bits have no level at zero."""
        return 0.0 if self.levels == 3 else 0.5

    def start(self, rows: Tensor) -> tuple[Tensor, ...]:
        return (rows.detach().abs().amax(dim=1, keepdim=True).clamp(min=SCALE_FLOOR),)

    def fake_quantize(self, rows: Tensor, ranges: Ranges, numel: int) -> Tensor:
        weight = gradient_scale(numel, 1)
        result: Tensor = _StretchedGrid.apply(rows, ranges[0], self.levels / 2, self.shift, weight)
        return result

    def codes(self, rows: Tensor, ranges: Ranges) -> Tensor:
        ratio = rows / ranges[0].clamp(min=SCALE_FLOOR)
        level = (ratio.clamp(-CLIP, CLIP) * (self.levels / 2) - self.shift).round() + self.shift
        return (level + (self.levels - 1) / 2).round().long()

    def affine(self, rows: Tensor, ranges: Ranges) -> Affine:
        (scale,) = ranges
        zero = constant(-(self.levels - 1) / 2, scale)
        return Affine(step=scale.clamp(min=SCALE_FLOOR) / (self.levels / 2), zero=zero)
