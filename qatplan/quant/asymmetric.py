"""Asymmetric ranges and four ways to learn them (You et al., arXiv 2404.16898).

x_hat = s * (clamp(round(x / s) - z, 0, k) + z) with k = 2^B - 1 and z a whole number, so that zero stays on the grid or
beyond its end. What differs is which numbers are learned: s and z; the ends of the range; or the ends as multiples of
the live extremes, which makes a step of the optimizer move the range in proportion to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd import Function

from qatplan.quant.quantizer import SCALE_FLOOR, Affine, Quantizer, Ranges, summed_to

SIGMOID_START = 4.0
"""Where the sigmoid form starts: sigma(4) = 0.982 of the extremes (arXiv 2404.16898)."""


def _affine_of_ends(low: Tensor, high: Tensor, top: int) -> Affine:
    """The grid whose ends are nearest to `low` and `high`: s = (high - low) / k, z = round(low / s)."""
    step = ((high - low) / top).clamp(min=SCALE_FLOOR)
    return Affine(step=step, zero=(low / step).round())


def _affine_of_scale(scale: Tensor, offset: Tensor) -> Affine:
    return Affine(step=scale.clamp(min=SCALE_FLOOR), zero=offset.round())


def _on_grid(rows: Tensor, grid: Affine, top: int) -> tuple[Tensor, Tensor]:
    """The rows on the grid, and 1 where they were not clipped, 0 where they were."""
    free = (rows / grid.step).round_().sub_(grid.zero)
    code = free.clamp(0, top)
    # As floats, in place: a boolean tensor takes five times as long to make and to multiply by.
    inside = free.eq_(code)
    return code.add_(grid.zero).mul_(grid.step), inside


def _sums(
    gradient: Tensor, rows: Tensor, result: Tensor, inside: Tensor, step: Tensor, shape: torch.Size
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What every rule of this file is made of: the rows' gradient, and three sums of `gradient` over each range.

    The sums: times round(x / s) - x / s over free values; over clipped values; over values clipped at the high end.
    """
    passed = gradient * inside
    clipped = gradient - passed
    # round(x / s) - x / s of a free value is (x_hat - x) / s, which saves keeping x / s from the forward pass.
    error = result - rows
    rounding = summed_to(passed * error, shape) / step
    high = summed_to(error.lt_(0).mul_(clipped), shape)
    return passed, rounding, summed_to(clipped, shape), high


class _LearnedRange(Function):
    """The grid of two learned numbers, either s and z or both ends, and the slopes by them.

    d/ds = round(x/s) - x/s inside, z clipped low, z + k clipped high; d/dz = 0 inside, s clipped. With
    e = round(x/s) - x/s and eps = z - low/s, (d/dlow, d/dhigh) is (-e/k, e/k) inside, (1 - eps/k, eps/k) clipped low,
    (-eps/k, 1 + eps/k) clipped high.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, first: Tensor, second: Tensor, top: int, ends: bool) -> Tensor:
        grid = _affine_of_ends(first, second, top) if ends else _affine_of_scale(first, second)
        result, inside = _on_grid(rows, grid, top)
        ctx.save_for_backward(rows, result, inside, grid.step, grid.zero, first)
        ctx.top, ctx.ends = top, ends
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        rows, result, inside, step, zero, low = ctx.saved_tensors
        passed, rounding, clipped, high = _sums(gradients[0], rows, result, inside, step, step.shape)
        if not ctx.ends:
            return passed, rounding + zero * clipped + ctx.top * high, step * clipped, None, None
        of_step = (rounding + (zero - low / step) * clipped) / ctx.top
        return passed, clipped - high - of_step, high + of_step, None, None


@dataclass(frozen=True)
class _Asymmetric(Quantizer):
    """What the quantizers of this file have in common: 2^B levels, and a zero that is found for each range."""

    symmetric: ClassVar[bool] = False

    @property
    def top(self) -> int:
        """k, the highest code."""
        return self.levels - 1


@dataclass(frozen=True)
class ScaleOffset(_Asymmetric):
    """Learns s and z themselves; z in steps, its rounding straight through.

    An Adam step of size eta moves the range by about k eta through s but only by s eta through z, a mismatch of
    k^2 / range that grows with the bits.
    """

    parameters: ClassVar[tuple[str, ...]] = ("scale", "offset")

    def start(self, rows: Tensor) -> tuple[Tensor, ...]:
        grid = _affine_of_ends(*extremes(rows), self.top)
        return grid.step, grid.zero

    def fake_quantize(self, rows: Tensor, ranges: Ranges, numel: int) -> Tensor:
        result: Tensor = _LearnedRange.apply(rows, *ranges, self.top, False)
        return result

    def affine(self, rows: Tensor, ranges: Ranges) -> Affine:
        return _affine_of_scale(*ranges)


@dataclass(frozen=True)
class MinMax(_Asymmetric):
    """Learns the two ends of the range in the unit of the values, started at the extremes."""

    parameters: ClassVar[tuple[str, ...]] = ("min", "max")

    def start(self, rows: Tensor) -> tuple[Tensor, ...]:
        return extremes(rows)

    def ends(self, rows: Tensor, ranges: Ranges) -> tuple[Tensor, Tensor]:
        """Both ends (rows, 1) of the range, differentiable in `ranges`."""
        low, high = ranges
        return low, high

    def fake_quantize(self, rows: Tensor, ranges: Ranges, numel: int) -> Tensor:
        result: Tensor = _LearnedRange.apply(rows, *self.ends(rows, ranges), self.top, True)
        return result

    def affine(self, rows: Tensor, ranges: Ranges) -> Affine:
        return _affine_of_ends(*self.ends(rows, ranges), self.top)


@dataclass(frozen=True)
class BetaGamma(MinMax):
    """Learns the ends as multiples of the live extremes: min = beta min(x), max = gamma max(x), started at 1.

    With `sigmoid` the multiples are sigma(beta) and sigma(gamma), so the range can only shrink, started at sigma(4).
    The extremes are constants of the values' own gradient, which is the clipped straight-through one; whether the paper
    lets a gradient pass through them is not known to us [open].
    """

    sigmoid: bool = False

    parameters: ClassVar[tuple[str, ...]] = ("beta", "gamma")
    live: ClassVar[bool] = True

    def start(self, rows: Tensor) -> tuple[Tensor, ...]:
        value = SIGMOID_START if self.sigmoid else 1.0
        return tuple(torch.full((len(rows), 1), value, dtype=rows.dtype, device=rows.device) for _ in range(2))

    def ends(self, rows: Tensor, ranges: Ranges) -> tuple[Tensor, Tensor]:
        low, high = extremes(rows)
        beta, gamma = (value.sigmoid() for value in ranges) if self.sigmoid else ranges
        return beta * low, gamma * high


beta_gamma_sigmoid = partial(BetaGamma, sigmoid=True)


def extremes(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest value of each row, (rows, 1), without gradient."""
    values = rows.detach()
    # Two reductions: aminmax over rows takes eight times as long.
    return values.amin(dim=1, keepdim=True), values.amax(dim=1, keepdim=True)
