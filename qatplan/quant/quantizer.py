"""The interface every quantizer fulfils: a small frozen leaf type over rows of numbers.

A quantizer sees a matrix of shape (rows, size). Each row has its own range parameters: an output channel, a group of
consecutive inputs within a channel, or the whole tensor; of activations, a token or the whole tensor. How a tensor is
cut into rows is not the quantizer's business, nor is rotating them: one that `rotates` is given rows in Hadamard space,
and what it returns lies there (`qatplan.quant.weight`, `qatplan.training.model.quantized`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from qatplan.quant.hadamard import block_size, rotate

SCALE_FLOOR = 1e-5
"""Scales are kept at least this large (ParetoQ's public code, arXiv 2502.02631), so that an all-zero row is finite."""

Ranges = Sequence[Tensor]
"""Range parameters in the order of `Quantizer.parameters`, each (rows, 1), or (1, 1) for all rows."""


@dataclass(frozen=True, kw_only=True)
class Affine:
    """What turns codes back into numbers: step * (code + zero), both (rows, 1), or (1, 1) for all rows."""

    step: Tensor
    zero: Tensor
    """In steps; the same for every row of a symmetric grid, which need not store it."""
    block: int = 1
    """Size of the Hadamard blocks in which the codes lie (`qatplan.quant.hadamard`); 1 where they are not rotated."""


@dataclass(frozen=True)
class Quantizer(ABC):
    """A map from rows of numbers to a uniform grid; leaves are frozen dataclasses without state."""

    bits: float
    """Nominal bit width (1.58 for ternary)."""

    parameters: ClassVar[tuple[str, ...]] = ()
    """Names of the range parameters that a row has; empty where the range follows from the live values alone."""
    relative: ClassVar[bool] = False
    """Whether training learns each parameter as a ratio to where it started, or the parameter itself."""
    live: ClassVar[bool] = False
    """Whether the range follows the live values, so that one set of parameters can serve rows never seen before."""
    symmetric: ClassVar[bool] = True
    """Whether the zero of the grid is fixed."""
    rotates: ClassVar[bool] = False
    """Whether the grid is one for rows that were rotated by Hadamard blocks of `hadamard_block`."""

    @property
    def levels(self) -> int:
        """Number of levels of the grid."""
        return levels_of(self.bits)

    def start(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Where the parameters start for these rows, each of shape (rows, 1)."""
        return ()

    @abstractmethod
    def fake_quantize(self, rows: Tensor, ranges: Ranges, numel: int) -> Tensor:
        """The rows on their grid, differentiable in `rows` and `ranges` by the quantizer's own rule.

        `numel` is the number of weights in the whole tensor (of activations, of features), which the gradient scale of
        a learned step refers to.
        """

    def codes(self, rows: Tensor, ranges: Ranges) -> Tensor:
        """The index of each number's level: integers from 0 to `levels` - 1, shape (rows, size)."""
        grid = self.affine(rows, ranges)
        return (rows / grid.step).round().sub_(grid.zero).clamp_(0, self.levels - 1).long()

    @abstractmethod
    def affine(self, rows: Tensor, ranges: Ranges) -> Affine:
        """The grid of each row; with `codes` it holds all that a stored tensor needs."""


def levels_of(bits: float) -> int:
    """Number of levels of a nominal bit width: 3 at 1.58."""
    return 3 if bits == 1.58 else 1 << int(bits)


def hadamard_block(quantizer: Quantizer, size: int) -> int:
    """By which blocks rows of `size` numbers are to be rotated for this quantizer; 1 is not at all."""
    return block_size(size) if quantizer.rotates else 1


def dequantize(codes: Tensor, grid: Affine) -> Tensor:
    """The numbers that codes stand for, in the type of the grid, rotated back where the codes lie in Hadamard space."""
    return rotate((codes.to(grid.step.dtype) + grid.zero) * grid.step, grid.block)


def constant(value: float, like: Tensor) -> Tensor:
    """`value` as a (1, 1) tensor of the type and device of `like`."""
    return torch.full((1, 1), value, dtype=like.dtype, device=like.device)


def gradient_scale(numel: int, highest: float) -> float:
    """1 / sqrt(numel * p): keeps the step's gradient in proportion to the weights' (LSQ, arXiv 1902.08153, eq. 4)."""
    return 1.0 / math.sqrt(numel * highest)


def summed_to(slope: Tensor, shape: torch.Size) -> Tensor:
    """The gradient (rows, size) of a parameter that was broadcast from `shape`: (rows, 1) or (1, 1)."""
    return slope.sum(dim=1, keepdim=True) if shape[0] == slope.shape[0] else slope.sum().view(1, 1)
