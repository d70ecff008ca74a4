"""A weight as a file holds it: integer codes packed without gaps, and the step and zero of each row.

B bits a code for 2^B levels, five ternary codes to a byte. Output channels may have bit widths of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qatplan.errors import DataError, UsageError
from qatplan.quant.hadamard import moved
from qatplan.quant.quantizer import Affine, dequantize, levels_of
from qatplan.quant.weight import RoundedWeight

TERNARY = 3
TRITS = 5
"""Ternary codes in a byte: 3^5 = 243 fit in 256, which is 1.6 bits a code."""


def packed_bytes(count: int, levels: int) -> int:
    """Bytes that `count` codes of `levels` levels take; UsageError for levels that are neither 3 nor 2, 4, ... 256."""
    if levels == TERNARY:
        return -(-count // TRITS)
    return -(-count * _bits(levels) // 8)


def pack(codes: Tensor, levels: int) -> Tensor:
    """Codes from 0 to `levels` - 1 as a flat tensor of bytes (uint8), the first code in the lowest bits."""
    flat = codes.reshape(-1).to(torch.uint8).cpu().numpy()
    if levels == TERNARY:
        digits = np.pad(flat, (0, -len(flat) % TRITS)).reshape(-1, TRITS)
        packed = (digits @ TERNARY ** np.arange(TRITS)).astype(np.uint8)
    else:
        packed = np.packbits(flat[:, None] >> np.arange(_bits(levels), dtype=np.uint8) & 1, bitorder="little")
    return torch.from_numpy(packed).to(codes.device)


def unpack(packed: Tensor, levels: int, count: int) -> Tensor:
    """The `count` codes (uint8, flat) that `pack` was given; DataError if there are not as many bytes as they take."""
    needed = packed_bytes(count, levels)
    if packed.numel() != needed:
        raise DataError(f"{count} codes of {levels} levels take {needed} bytes, not {packed.numel()}.")
    octets = packed.cpu().numpy()
    if levels == TERNARY:
        codes = (octets[:, None] // TERNARY ** np.arange(TRITS) % TERNARY).astype(np.uint8).reshape(-1)[:count]
    else:
        bits = _bits(levels)
        single = np.unpackbits(octets, count=count * bits, bitorder="little").reshape(count, bits)
        codes = np.packbits(single, axis=1, bitorder="little").reshape(-1)
    return torch.from_numpy(codes).to(packed.device)


def _bits(levels: int) -> int:
    bits = levels.bit_length() - 1
    if levels != 1 << bits or not 1 <= bits <= 8:
        raise UsageError(f"{levels} levels cannot be packed: they must be 3, or a power of 2 from 2 to 256.")
    return bits


@dataclass(frozen=True, kw_only=True)
class StoredWeight:
    """One weight tensor whose codes all have the same width."""

    shape: tuple[int, int]
    """(outputs, inputs) of the weight."""
    levels: int
    packed: Tensor
    """Codes of all rows, uint8, flat (`pack`)."""
    grid: Affine
    """Steps (rows, 1) float32 and zeros, (1, 1) where all rows have the same; and the blocks in which the codes lie."""

    @property
    def bytes(self) -> int:
        """Bytes of codes, steps and zeros."""
        return sum(tensor.nbytes for tensor in (self.packed, self.grid.step, self.grid.zero))

    def weight(self, block: int = 1) -> Tensor:
        """The weight that the codes stand for, (outputs, inputs) float32, rotated by Hadamard blocks of its inputs."""
        codes = unpack(self.packed, self.levels, self.shape[0] * self.shape[1]).view(len(self.grid.step), -1)
        rows = dequantize(codes, Affine(step=self.grid.step, zero=self.grid.zero))
        return moved(rows, self.shape, self.grid.block, block)


@dataclass(frozen=True, kw_only=True)
class MixedWeight:
    """One weight tensor in parts, each of the output channels that share a bit width."""

    shape: tuple[int, int]
    """(outputs, inputs) of the weight."""
    widths: Tensor
    """Bits of each output channel, (outputs,) uint8."""
    parts: dict[int, StoredWeight]
    """By bit width, the output channels of that width in their order."""

    @property
    def bytes(self) -> int:
        """Bytes of all parts and of the table of widths."""
        return self.widths.numel() + sum(part.bytes for part in self.parts.values())

    def weight(self, block: int = 1) -> Tensor:
        """As of a `StoredWeight`."""
        weight = torch.empty(self.shape, device=self.widths.device)
        for bits, part in self.parts.items():
            weight[self.widths == bits] = part.weight(block)
        return weight


def store(weight: RoundedWeight) -> StoredWeight | MixedWeight:
    """Pack the codes of a weight and keep the grid of its rows; all rows of a channel have the same whole bits."""
    outputs, inputs = weight.shape
    codes, grid, bits = weight.codes, weight.grid, weight.bits
    if not isinstance(bits, Tensor):
        return _of_one_width(codes, grid, bits, (outputs, inputs))
    widths = bits.view(outputs, -1)[:, 0].to(torch.uint8)
    parts = {}
    for width in sorted(set(widths.tolist())):
        rows, channels = bits[:, 0] == width, int((widths == width).sum())
        own = Affine(step=grid.step[rows], zero=grid.zero[rows], block=grid.block)
        parts[width] = _of_one_width(codes[rows], own, width, (channels, inputs))
    return MixedWeight(shape=(outputs, inputs), widths=widths, parts=parts)


def _of_one_width(codes: Tensor, grid: Affine, bits: float, shape: tuple[int, int]) -> StoredWeight:
    step, zero = grid.step.float().expand(len(codes), 1).contiguous(), grid.zero.float()
    if bool((zero == zero[:1]).all()):
        zero = zero[:1]
    levels, grid = levels_of(bits), Affine(step=step, zero=zero.contiguous(), block=grid.block)
    return StoredWeight(shape=shape, levels=levels, packed=pack(codes, levels), grid=grid)
