"""Mixed precision: products of matrices in bfloat16, everything that is learned or rounded in float32.

Master weights, the optimizer, the quantizers and their ranges, norms, the softmax of the loss and the loss itself stay
in float32; torch.autocast decides between them. bfloat16 has the range of float32, so gradients need no scaling.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qatplan.training.model.decoder import Feed, Forward


def in_bfloat16(forward: Forward, device: torch.device) -> Forward:
    """The same function with its products of matrices in bfloat16; its backward pass follows."""

    def call(weights: list[Tensor], tokens: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            return forward(weights, tokens, targets)

    return call


def in_float32(feed: Feed) -> Feed:
    """A feed that quantizes in float32 also where it is handed bfloat16."""

    def quantize(x: Tensor, site: int, ranges: Sequence[Tensor]) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return feed(x.float(), site, ranges)

    return quantize
