"""LSQ: a uniform signed grid whose step is learned (Esser et al., arXiv 1902.08153), with ParetoQ's initialisation.

x_hat = s * clamp(round(x / s), n, p), n = -2^(B-1), p = 2^(B-1) - 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor
from torch.autograd import Function

from qatplan.quant.quantizer import SCALE_FLOOR, Quantizer, gradient_scale


class _LearnedStep(Function):
    """Forward: the grid. Backward: clipped straight-through for the weight, LSQ's equation 3 for the step."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, scale: Tensor, lowest: int, highest: int, weight: float) -> Tensor:
        step = scale.clamp(min=SCALE_FLOOR)
        ratio = rows / step
        level = ratio.round().clamp_(lowest, highest)
        ctx.save_for_backward(ratio, level)
        ctx.bounds = (lowest, highest, weight)
        return level * step

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        (gradient,) = gradients
        ratio, level = ctx.saved_tensors
        lowest, highest, weight = ctx.bounds
        inside = ((ratio >= lowest) & (ratio <= highest)).to(gradient.dtype)
        # round(x/s) - x/s inside, n or p where clipped: `level` already is n or p there.
        step_slope = level.addcmul(ratio, inside, value=-1)
        step_gradient = (step_slope * gradient).sum(dim=1, keepdim=True) * weight
        return gradient * inside, step_gradient, None, None, None


@dataclass(frozen=True)
class Lsq(Quantizer):
    """Learned step size at `bits` >= 2, one step per row.

    `start` chooses the first step: `max` is max|w| / p (ParetoQ, arXiv 2502.02631), `mean` is 2 mean|w| / sqrt(p)
    (LSQ, arXiv 1902.08153).
    """

    bits: float
    start: Literal["max", "mean"] = "max"

    @property
    def lowest(self) -> int:
        return -(1 << (int(self.bits) - 1))

    @property
    def highest(self) -> int:
        return (1 << (int(self.bits) - 1)) - 1

    @property
    def grid(self) -> tuple[float, ...]:
        return tuple(float(level) for level in range(self.lowest, self.highest + 1))

    def initial_scale(self, rows: Tensor) -> Tensor:
        magnitude = rows.detach().abs()
        if self.start == "max":
            scale = magnitude.amax(dim=1, keepdim=True) / self.highest
        else:
            scale = 2 * magnitude.mean(dim=1, keepdim=True) / self.highest**0.5
        return scale.clamp(min=SCALE_FLOOR)

    def fake_quantize(self, rows: Tensor, scale: Tensor, numel: int) -> Tensor:
        weight = gradient_scale(numel, self.highest)
        result: Tensor = _LearnedStep.apply(rows, scale, self.lowest, self.highest, weight)
        return result

    def codes(self, rows: Tensor, scale: Tensor) -> Tensor:
        level = (rows / scale.clamp(min=SCALE_FLOOR)).round().clamp(self.lowest, self.highest)
        return level.long() - self.lowest
