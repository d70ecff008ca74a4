"""The interface every quantizer fulfils: a small frozen leaf type over rows of weights.

A quantizer sees a matrix of shape (rows, size). Each row has one scale: an output channel, a group of consecutive
inputs within a channel, or the whole tensor; how a weight is cut into rows is not the quantizer's business
(`qatplan.quant.weight`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

SCALE_FLOOR = 1e-5
"""Scales are kept at least this large (ParetoQ's public code, arXiv 2502.02631), so that an all-zero row is finite."""


class Quantizer(ABC):
    """A map from rows of weights to a fixed grid; leaves are frozen dataclasses without state.

    `bits` is the nominal bit width (1.58 for ternary). Scales are tensors of shape (rows, 1) in weight units.
    """

    bits: float

    @property
    @abstractmethod
    def grid(self) -> tuple[float, ...]:
        """Every level, ascending, in units of the scale."""

    @abstractmethod
    def initial_scale(self, rows: Tensor) -> Tensor:
        """The starting scale of each row: shape (rows, 1), at least `SCALE_FLOOR`."""

    @abstractmethod
    def fake_quantize(self, rows: Tensor, scale: Tensor, numel: int) -> Tensor:
        """The rows on their grid, differentiable in `rows` and `scale` by the quantizer's own rule.

        `numel` is the number of weights in the whole tensor, which the gradient scale of a learned step refers to.
        """

    @abstractmethod
    def codes(self, rows: Tensor, scale: Tensor) -> Tensor:
        """The index of each weight's level in `grid`: integers from 0, shape (rows, size)."""

    def dequantize(self, codes: Tensor, scale: Tensor) -> Tensor:
        """The weights that `codes` stand for: `grid[codes] * scale`."""
        levels = torch.tensor(self.grid, dtype=scale.dtype, device=scale.device)
        return levels[codes.long()] * scale.clamp(min=SCALE_FLOOR)


def gradient_scale(numel: int, highest: float) -> float:
    """1 / sqrt(numel * p): keeps the step's gradient in proportion to the weights' (LSQ, arXiv 1902.08153, eq. 4)."""
    return 1.0 / math.sqrt(numel * highest)
