"""Rotation of rows by Hadamard blocks: it spreads outliers, so that what is rounded looks nearly Gaussian."""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST_BLOCK = 128


def _sylvester(largest: int) -> dict[int, Tensor]:
    """By size, the matrices of +-1 over sqrt(size), which are symmetric and orthogonal, from 1 to `largest`."""
    signs = {1: torch.ones(1, 1)}
    while max(signs) < largest:
        half = signs[max(signs)]
        signs[2 * len(half)] = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), half)
    return {size: matrix / size**0.5 for size, matrix in signs.items()}


_MATRICES = _sylvester(LARGEST_BLOCK)


def block_size(size: int) -> int:
    """The block for rows of `size` numbers: the largest power of two that divides it, at most 128."""
    return min(size & -size, LARGEST_BLOCK)


def rotate(rows: Tensor, block: int) -> Tensor:
    """Every `block` consecutive numbers of a row times the orthogonal Hadamard matrix, which is its own inverse.

    `block` is a power of two that divides the row size; 1 changes nothing.
    """
    if block == 1:
        return rows
    matrix = _MATRICES[block].to(device=rows.device, dtype=rows.dtype)
    return (rows.reshape(-1, block) @ matrix).view(rows.shape)
