"""Quantized activations: the input of a linear layer on a grid, one range per tensor or per token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from qatplan.quant.hadamard import rotate
from qatplan.quant.quantizer import Quantizer, hadamard_block
from qatplan.quant.registry import ActivationGranularity


@dataclass(frozen=True)
class ActivationQuantizer:
    """A quantizer of activations (..., features).

    Per tensor, one set of range parameters serves all values, learned or following the live values. Per token every
    token has a range of its own, which must follow the live values (`Quantizer.live`); its parameters, if it has any,
    are shared by all tokens.

    Activations stay in the space of the grid. Where that is Hadamard space, the weight they meet is to be rotated by
    the same `block`: x W^T = (x H) (W H)^T, and of the two the weight is the smaller.
    """

    quantizer: Quantizer
    granularity: ActivationGranularity

    def start(self, x: Tensor) -> tuple[Tensor, ...]:
        """Where the parameters start, each (1, 1), from a first batch of activations."""
        return tuple(value.mean(dim=0, keepdim=True) for value in self.quantizer.start(self._rows(x.detach())))

    def fake(self, x: Tensor, ranges: Sequence[Tensor]) -> Tensor:
        """The activations on their grid, in its space, differentiable in them and in the ranges."""
        return self.quantizer.fake_quantize(self._rows(x), ranges, x.shape[-1]).view_as(x)

    def block(self, features: int) -> int:
        """By which Hadamard blocks so many features are rotated, and so must be what they are multiplied with."""
        return hadamard_block(self.quantizer, features)

    def _rows(self, x: Tensor) -> Tensor:
        rows = rotate(x.reshape(-1, x.shape[-1]), self.block(x.shape[-1]))
        return rows.reshape(1, -1) if self.granularity == "tensor" else rows
