"""Integer codes packed without gaps: B bits a code for 2^B levels, five ternary codes to a byte."""

from __future__ import annotations

import torch
from torch import Tensor

from qatplan.errors import DataError, UsageError

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
    flat = codes.reshape(-1).to(torch.uint8)
    if levels == TERNARY:
        digits = _padded(flat, TRITS).view(-1, TRITS).to(torch.int32)
        return (digits * _powers(codes.device)).sum(dim=1).to(torch.uint8)
    bits = _bits(levels)
    each = (flat[:, None] >> torch.arange(bits, dtype=torch.uint8, device=flat.device)) & 1
    octets = _padded(each.reshape(-1), 8).view(-1, 8)
    return (octets << torch.arange(8, dtype=torch.uint8, device=flat.device)).sum(dim=1).to(torch.uint8)


def unpack(packed: Tensor, levels: int, count: int) -> Tensor:
    """The `count` codes (uint8, flat) that `pack` was given; DataError if there are not as many bytes as they take."""
    needed = packed_bytes(count, levels)
    if packed.numel() != needed:
        raise DataError(f"{count} codes of {levels} levels take {needed} bytes, not {packed.numel()}.")
    if levels == TERNARY:
        digits = packed[:, None].to(torch.int32) // _powers(packed.device) % TERNARY
        return digits.reshape(-1)[:count].to(torch.uint8)
    bits = _bits(levels)
    single = ((packed[:, None] >> torch.arange(8, dtype=torch.uint8, device=packed.device)) & 1).reshape(-1)
    each = single[: count * bits].view(count, bits)
    return (each << torch.arange(bits, dtype=torch.uint8, device=packed.device)).sum(dim=1).to(torch.uint8)


def _bits(levels: int) -> int:
    bits = levels.bit_length() - 1
    if levels != 1 << bits or not 1 <= bits <= 8:
        raise UsageError(f"{levels} levels cannot be packed: they must be 3, or a power of 2 from 2 to 256.")
    return bits


def _powers(device: torch.device) -> Tensor:
    return TERNARY ** torch.arange(TRITS, dtype=torch.int32, device=device)


def _padded(flat: Tensor, multiple: int) -> Tensor:
    return torch.nn.functional.pad(flat, (0, -len(flat) % multiple))
