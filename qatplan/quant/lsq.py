"""LSQ: a uniform signed grid whose step is learned (Esser et al., arXiv 1902.08153), with ParetoQ's initialisation.

x_hat = s * clamp(round(x / s), n, p), n = -2^(B-1), p = 2^(B-1) - 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

from torch import Tensor
from torch.autograd import Function

from qatplan.quant.quantizer import SCALE_FLOOR, Affine, Quantizer, Ranges, constant, gradient_scale, summed_to


class _LearnedStep(Function):
    """Forward: the grid. Backward: clipped straight-through for the weight, LSQ's equation 3 for the step."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, scale: Tensor, lowest: int, highest: int, weight: float) -> Tensor:
        step = scale.clamp(min=SCALE_FLOOR)
        ratio = rows / step
        level = ratio.round().clamp_(lowest, highest)
        ctx.save_for_backward(ratio, level)
        ctx.bounds = (lowest, highest, weight, scale.shape)
        return level * step

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        (gradient,) = gradients
        ratio, level = ctx.saved_tensors
        lowest, highest, weight, shape = ctx.bounds
        # 1 or 0 as floats: comparing in place costs a fifth of making a boolean tensor and multiplying by it.
        inside = ratio.clamp(lowest, highest).eq_(ratio)
        # round(x/s) - x/s inside, n or p where clipped: `level` already is n or p there.
        step_slope = level.addcmul(ratio, inside, value=-1)
        step_gradient = summed_to(step_slope.mul_(gradient), shape) * weight
        return inside.mul_(gradient), step_gradient, None, None, None


@dataclass(frozen=True)
class Lsq(Quantizer):
    """Learned step size at `bits` >= 2, one step per row.

    `first` chooses the first step: `max` is max|w| / p (ParetoQ, arXiv 2502.02631), `mean` is 2 mean|w| / sqrt(p)
    (LSQ, arXiv 1902.08153).
    """

    first: Literal["max", "mean"] = "max"

    parameters: ClassVar[tuple[str, ...]] = ("scale",)
    relative: ClassVar[bool] = True

    @property
    def bounds(self) -> tuple[int, int]:
        """n and p, the lowest and the highest level in steps."""
        return signed_bounds(self.bits)

    def start(self, rows: Tensor) -> tuple[Tensor, ...]:
        return (first_step(rows, self.bounds[1], self.first),)

    def fake_quantize(self, rows: Tensor, ranges: Ranges, numel: int) -> Tensor:
        lowest, highest = self.bounds
        result: Tensor = _LearnedStep.apply(rows, ranges[0], lowest, highest, gradient_scale(numel, highest))
        return result

    def affine(self, rows: Tensor, ranges: Ranges) -> Affine:
        (scale,) = ranges
        return Affine(step=scale.clamp(min=SCALE_FLOOR), zero=constant(self.bounds[0], scale))


lsq = partial(Lsq, first="mean")
"""LSQ as its paper starts it."""


def signed_bounds(bits: float) -> tuple[int, int]:
    """n and p, the lowest and the highest level of a signed grid in steps."""
    half = 1 << (int(bits) - 1)
    return -half, half - 1


def first_step(rows: Tensor, highest: int, first: Literal["max", "mean"]) -> Tensor:
    """The step (rows, 1) that training starts from: max|w| / p, or 2 mean|w| / sqrt(p)."""
    magnitude = rows.detach().abs()
    if first == "max":
        scale = magnitude.amax(dim=1, keepdim=True) / highest
    else:
        scale = 2 * magnitude.mean(dim=1, keepdim=True) / highest**0.5
    return scale.clamp(min=SCALE_FLOOR)
