"""Bits for each output neuron by its importance, at a fixed average.

After Yvinec, Dapogny and Bailly (arXiv 2308.07662), whose procedure is not public to us [open]. Ours: the importance of
an output neuron is the sum of |w dL/dw| over its weights; the most important share of neurons gets one bit more than
the average, the least important share of the same size one bit less.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def neuron_importance(weight: Tensor, gradient: Tensor) -> Tensor:
    """Sum of |w dL/dw| over each output neuron of a weight (outputs, inputs); shape (outputs,)."""
    return (weight.detach() * gradient).abs().sum(dim=1)


def extra_bits(importance: Mapping[str, Tensor], inputs: Mapping[str, int], share: float) -> dict[str, Tensor]:
    """-1, 0 or 1 for each output neuron of each matrix, shape (outputs,), int8.

    Neurons of all matrices with the same number of inputs compete, so that as many weights gain a bit as lose one
    and the average is exact. Equal importance is ranked by place.
    """
    extra = {name: torch.zeros(len(values), dtype=torch.int8) for name, values in importance.items()}
    for size in sorted(set(inputs.values())):
        names = [name for name in importance if inputs[name] == size]
        order = torch.cat([importance[name].cpu() for name in names]).argsort(stable=True)
        moved = int(share * len(order))
        ranked = torch.zeros(len(order), dtype=torch.int8)
        ranked[order[:moved]] = -1
        ranked[order[len(order) - moved :]] = 1
        for name, part in zip(names, ranked.split([len(importance[name]) for name in names]), strict=True):
            extra[name] = part
    return extra
