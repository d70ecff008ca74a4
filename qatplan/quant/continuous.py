"""Continuous approximations of clamping and of rounding, over LSQ (Li et al., arXiv 2410.10849).

The loss always sees a hard grid; what is continuous is the slope by which weight and step learn:
x_hat = s R(C(x / s)) with R the rounding and C the clamp, so dx_hat/dx = R' C' and dx_hat/ds = R(C) - (x / s) R' C'.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import Function

from qatplan.quant.lsq import Lsq
from qatplan.quant.quantizer import SCALE_FLOOR, Ranges, gradient_scale, summed_to

SHARPNESS = 10.0
"""The gate of SoftClamp is g(t) = sigma(SHARPNESS t), t in steps: within half a step of a bound the slope goes from 1
to 0. Not public to us [open]; it must exceed 0.56, so that rounding takes back the dip of 0.28 / SHARPNESS steps."""

TEMPERATURE = 4.0
"""T of sigmoid rounding: slopes from 0.55 at a level to 1.31 between two. Not public to us [open]."""


def soft_clamp(x: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """SoftClamp(x) = x g(x-a) g(b-x) + a g(a-x) + b g(x-b), and its slope: exactly 1/2 at both bounds.

    Only the gate of the nearer bound is evaluated, so both are exact up to the other one's: at most
    exp(-SHARPNESS (b - a) / 2), 3e-7 at two bits, in the middle of the range. Just outside a bound the function dips
    beyond it before it comes back, by at most 0.28 / SHARPNESS: the slope there is below zero.
    """
    middle, half = (low + high) / 2, (high - low) / 2
    centred = x - middle
    room = half - centred.abs()
    # Beyond 40 a sigmoid is 1 in any precision, but vectorised exponentials of what underflows take ten times as long.
    gate = (room * SHARPNESS).clamp_(max=40.0).sigmoid_()
    # With t = |x - middle| the clamp is t g + half (1 - g) = half - (half - t) g, and g' = -SHARPNESS g (1 - g).
    room *= gate
    slope = torch.addcmul(gate, 1 - gate, room, value=SHARPNESS)
    return room.neg_().add_(half).copysign_(centred).add_(middle), slope


def times_rounding_slope(slope: Tensor, beside: Tensor) -> Tensor:
    """`slope` times the derivative of floor(x) + sigma(T (x - floor(x) - 1/2)), over its mean tanh(T / 4).

    `beside` is x - round(x), and is overwritten. So divided the derivative averages to 1 over every unit, and tends to
    1 everywhere, the straight-through estimator, as T -> 0.
    """
    # The distance to the middle between two levels is 1/2 - |x - round(x)|, and sigma' = sigma (1 - sigma) is even.
    # On CPU torch takes a quarter of tanh's time for a sigmoid.
    sigma = beside.abs_().sub_(0.5).mul_(TEMPERATURE).sigmoid_()
    product: Tensor = torch.ops.aten.sigmoid_backward(slope, sigma)
    return product.mul_(TEMPERATURE / math.tanh(TEMPERATURE / 4))


class _ContinuousSlope(Function):
    """Forward: s round(C(x / s)), C hard or soft. Backward: the slopes of the continuous functions."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, scale: Tensor, low: int, high: int, weight: float, soft: bool, sigmoid: bool
    ) -> Tensor:
        step = scale.clamp(min=SCALE_FLOOR)
        ratio = rows / step
        if soft:
            clamped, slope = soft_clamp(ratio, low, high)
        else:
            clamped = ratio.clamp(low, high)
            slope = clamped.clone().eq_(ratio)
        level = clamped.round()
        if sigmoid:
            slope = times_rounding_slope(slope, clamped.sub_(level))
        ctx.save_for_backward(slope, level.addcmul(ratio, slope, value=-1))
        ctx.constants = (weight, scale.shape)
        return level.mul_(step)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        slope, step_slope = ctx.saved_tensors
        weight, shape = ctx.constants
        step_gradient = summed_to(step_slope * gradient, shape) * weight
        return gradient * slope, step_gradient, None, None, None, None, None


@dataclass(frozen=True)
class Continuous(Lsq):
    """LSQ's grid, start and gradient scale, with a soft clamp, sigmoid rounding, or both.

    SoftClamp changes the forward pass too: s round(SoftClamp(x / s)) has exactly LSQ's levels (its dips outside the
    grid are rounded back), but the thresholds of the two outermost levels move outwards by 0.003 steps. `codes` takes
    the same path, so it gives the numbers that training saw. Sigmoid rounding rounds hard in the forward pass [open:
    the printed formula is garbled].
    """

    first: Literal["max", "mean"] = "mean"
    soft: bool = False
    """Whether the clamp is SoftClamp."""
    sigmoid: bool = False
    """Whether rounding has the slope of a sigmoid."""

    def fake_quantize(self, rows: Tensor, ranges: Ranges, numel: int) -> Tensor:
        low, high = self.bounds
        weight = gradient_scale(numel, high)
        result: Tensor = _ContinuousSlope.apply(rows, ranges[0], low, high, weight, self.soft, self.sigmoid)
        return result

    def codes(self, rows: Tensor, ranges: Ranges) -> Tensor:
        if not self.soft:
            return super().codes(rows, ranges)
        clamped, _ = soft_clamp(rows / ranges[0].clamp(min=SCALE_FLOOR), *self.bounds)
        return clamped.round().long() - self.bounds[0]


lsq_soft_clamp = partial(Continuous, soft=True)
lsq_sigmoid = partial(Continuous, sigmoid=True)
lsq_soft_clamp_sigmoid = partial(Continuous, soft=True, sigmoid=True)
