"""The learned ranges of one tensor: where each range parameter started, and what training has made of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qatplan.quant.quantizer import Quantizer


class LearnedRanges:
    """Range parameters by name, learned as the quantizer says: as a ratio to their start, or as they are.

    Learning the ratio instead of a scale makes an Adam step the same relative change of the range at every bit width;
    learning a step size in weight units moves the range by 2^(B-1) as much, which is unstable at 6 bits for the
    learning rates of small models.
    """

    def __init__(self, quantizer: Quantizer, starts: Sequence[Tensor]) -> None:
        self.quantizer = quantizer
        self.starts = dict(zip(quantizer.parameters, starts, strict=True))
        self.learned = {
            name: nn.Parameter(torch.ones_like(start) if quantizer.relative else start.clone())
            for name, start in self.starts.items()
        }

    def current(self) -> list[Tensor]:
        """The parameters in their own units, differentiable in what is learned."""
        if self.quantizer.relative:
            return [self.starts[name] * value for name, value in self.learned.items()]
        return list(self.learned.values())

    @torch.no_grad()
    def restore(self, starts: dict[str, Tensor], learned: dict[str, Tensor]) -> None:
        """Take over the tensors that a saved state has under the parameters' names."""
        for name, value in self.learned.items():
            self.starts[name].copy_(starts[name])
            value.copy_(learned[name])
