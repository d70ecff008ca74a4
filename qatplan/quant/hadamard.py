"""Rotation of rows by Hadamard blocks: it spreads outliers, so that what is rounded looks nearly Gaussian."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

LARGEST_BLOCK = 128


def block_size(size: int) -> int:
    """The block for rows of `size` numbers: the largest power of two that divides it, at most 128."""
    return min(size & -size, LARGEST_BLOCK)


def rotate(rows: Tensor, block: int) -> Tensor:
    """Every `block` consecutive numbers of a row times the orthogonal Hadamard matrix, which is its own inverse.

    `block` is a power of two that divides the row size; 1 changes nothing.
    """
    if block == 1:
        return rows
    matrix = _matrix(block).to(device=rows.device, dtype=rows.dtype)
    return (rows.reshape(-1, block) @ matrix).view(rows.shape)


@functools.cache
def _matrix(block: int) -> Tensor:
    """Sylvester's matrix of +-1 (block, block) over sqrt(block): symmetric and orthogonal."""
    matrix = torch.ones(1, 1)
    while len(matrix) < block:
        matrix = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), matrix)
    return matrix.div(block**0.5)
