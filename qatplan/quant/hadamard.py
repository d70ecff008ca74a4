"""Rotation of rows by Hadamard blocks: it spreads outliers, so that what is rounded looks nearly Gaussian."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

LARGEST_BLOCK = 128
NARROWEST, WIDEST = 16, 64
"""Sizes of matrices that are multiplied well on CPU: narrower ones take three times as long per operation, and of wider
ones most operations can be saved."""
PRODUCT = 32
"""What is left of a block wider than `WIDEST` for a product of matrices; the rest is sums and differences."""


def _sylvester(largest: int) -> dict[int, Tensor]:
    """By size, the matrices of +-1 over sqrt(size), which are symmetric and orthogonal, from 1 to `largest`."""
    signs = {1: torch.ones(1, 1)}
    while max(signs) < largest:
        half = signs[max(signs)]
        signs[2 * len(half)] = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), half)
    return {size: matrix / size**0.5 for size, matrix in signs.items()}


_MATRICES = _sylvester(LARGEST_BLOCK)
_ON_CPU = {
    size: torch.kron(torch.eye(max(1, NARROWEST // size)), matrix)
    if size <= WIDEST
    else _MATRICES[PRODUCT] * (PRODUCT / size) ** 0.5
    for size, matrix in _MATRICES.items()
}
"""By size of the block, what is multiplied on CPU: several narrow blocks at once, a factor of a wide one."""


class _Rotation(Function):
    """A symmetric orthogonal matrix: the gradient is rotated as the rows are."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, block: int) -> Tensor:
        ctx.block = block
        return _rotated(rows, block)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _rotated(gradients[0], ctx.block), None


def _rotated(rows: Tensor, block: int) -> Tensor:
    matrix = _ON_CPU[block] if rows.device.type == "cpu" else _MATRICES[block]
    if rows.numel() % len(matrix) or (block > WIDEST and torch.compiler.is_compiling()):
        # Compiled code is slow at sums of views.
        matrix = _MATRICES[block]
    size = len(matrix)
    matrix = matrix.to(dtype=rows.dtype) if rows.device.type == "cpu" else _kept(rows, size)
    if rows.ndim == 2 and rows.shape[1] == size == block:
        return rows @ matrix
    turned = rows.reshape(-1, size) @ matrix
    while size < block:
        # Sylvester's construction, once more: [[H, H], [H, -H]].
        first, second = turned.view(-1, 2, size).unbind(1)
        difference = first - second
        first.add_(second)
        second.copy_(difference)
        size *= 2
    return turned.view(rows.shape)


def _kept(rows: Tensor, size: int) -> Tensor:
    """The matrix of a size from a copy that stays where the rows are."""
    found: Tensor = _known(rows.device, rows.dtype)[size.bit_length() - 1, :size, :size]
    return found


# A compiler would look into the cache and copy in every step. It takes one constant of a name, so all sizes are in one.
@torch.compiler.assume_constant_result  # type: ignore[no-untyped-call]
def _known(device: torch.device, dtype: torch.dtype) -> Tensor:
    return _sent(device, dtype)


@cache
def _sent(device: torch.device, dtype: torch.dtype) -> Tensor:
    """The matrices of all sizes, 1, 2, 4, ..., each in the corner of one as large as the largest."""
    kept = torch.zeros(len(_MATRICES), LARGEST_BLOCK, LARGEST_BLOCK)
    for matrix, place in zip(_MATRICES.values(), kept, strict=True):
        place[: len(matrix), : len(matrix)] = matrix
    return kept.to(device=device, dtype=dtype)


def block_size(size: int) -> int:
    """The block for rows of `size` numbers: the largest power of two that divides it, at most 128."""
    return min(size & -size, LARGEST_BLOCK)


def rotate(rows: Tensor, block: int) -> Tensor:
    """Every `block` consecutive numbers of a row times the orthogonal Hadamard matrix, which is its own inverse.

    `block` is a power of two that divides the row size; 1 changes nothing. A number that is not finite spoils its
    block, and of blocks narrower than `NARROWEST` the neighbours too.
    """
    if block == 1:
        return rows
    if block <= WIDEST:
        return _rotated(rows, block)
    rotated: Tensor = _Rotation.apply(rows, block)
    return rotated


def moved(rows: Tensor, shape: Sequence[int], block: int, wanted: int) -> Tensor:
    """Rows of a weight that are rotated by `block`, as `shape`, its inputs rotated by `wanted` instead."""
    if block == wanted:
        # There already: rows are cut at multiples of their block.
        return rows.view(*shape)
    return rotate(rotate(rows, block).view(*shape), wanted)
