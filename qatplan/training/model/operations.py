"""The operations of a decoder layer that have no parameters, each written twice: for eager kernels, and for a compiler.

Both compute the same functions up to rounding. Eager code is fastest with few large kernels; `torch.compile` fuses
what it can see into, and torch's own attention is opaque to it and, at short sequences on CPU, several times slower
than the matrix products it consists of.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

ROTARY_BASE = 10000.0
LONGEST_EXPLICIT = 512
"""Explicit attention keeps a (sequence, sequence) matrix per head for the backward pass: beyond this it takes more
memory than it saves time."""
QUERY_BLOCKS = 2
"""Explicit attention cuts the queries into this many blocks, each of which leaves out the keys that come after it."""

Rotation = Callable[[Tensor], Tensor]
"""(batch, heads, sequence, head size) -> the same, rotated by position."""
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Causal attention: queries, keys and values (batch, heads, sequence, head size) -> the same."""
Gate = Callable[[Tensor, Tensor], Tensor]
"""SwiGLU without its matrices: silu(gate) * up."""


@dataclass(frozen=True, kw_only=True)
class Operations:
    """What a layer computes between its matrices."""

    rotate: Rotation
    attend: Attention
    gate: Gate


def eager_operations(sequence: int, head_size: int, device: torch.device) -> Operations:
    """For kernels that run one by one. Sweeps are reproduced bit for bit only as long as these are not touched."""
    angle = _angles(sequence, head_size)
    cosine, sine = angle.cos().to(device), angle.sin().to(device)

    def rotate(x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)

    return Operations(rotate=rotate, attend=_library_attention, gate=lambda gate, up: functional.silu(gate) * up)


def compiled_operations(sequence: int, head_size: int, device: torch.device) -> Operations:
    """For torch.compile: one pass over memory for each, and attention made of matrix products where that is faster."""
    angle = _angles(sequence, head_size)
    cosine = torch.cat((angle.cos(), angle.cos()), dim=-1).to(device)
    sine = torch.cat((-angle.sin(), angle.sin()), dim=-1).to(device)

    def rotate(x: Tensor) -> Tensor:
        return x * cosine + torch.roll(x, head_size // 2, dims=-1) * sine

    explicit = device.type == "cpu" and sequence <= LONGEST_EXPLICIT
    attend = explicit_attention(sequence, head_size, device) if explicit else _library_attention
    # The backward pass of torch's silu evaluates the exponential twice.
    return Operations(rotate=rotate, attend=attend, gate=lambda gate, up: gate * torch.sigmoid(gate) * up)


def explicit_attention(sequence: int, head_size: int, device: torch.device) -> Attention:
    """Causal attention of exactly `sequence` positions as matrix products and a softmax."""
    length = math.ceil(sequence / QUERY_BLOCKS)
    later = torch.full((sequence, sequence), -math.inf).triu(1).to(device)
    scale = 1 / math.sqrt(head_size)

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        blocks = []
        for start in range(0, sequence, length):
            end = min(start + length, sequence)
            scores = query[:, :, start:end] @ key[:, :, :end].transpose(-1, -2)
            shares = torch.softmax(scores * scale + later[start:end, :end], dim=-1)
            blocks.append(shares @ value[:, :, :end])
        return torch.cat(blocks, dim=2)

    return attend


def _library_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(query, key, value, is_causal=True)


def _angles(sequence: int, head_size: int) -> Tensor:
    positions = torch.arange(sequence, dtype=torch.float32)[:, None]
    frequencies = ROTARY_BASE ** (-torch.arange(0, head_size, 2, dtype=torch.float32) / head_size)
    return positions * frequencies[None, :]
