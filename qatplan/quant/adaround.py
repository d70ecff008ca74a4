"""AdaRound: learn for each weight whether it is rounded down or up (Nagel et al., arXiv 2004.10568, and public code).

W_hat = s (clamp(floor(W / s - z) + h(V), 0, levels - 1) + z) with h(V) = clip(sigmoid(V) (zeta - gamma) + gamma, 0, 1).
The grid is the one of rounding to nearest and stays; V starts where W_hat = W, and a regulariser drives h to 0 or 1.
Where the grid's codes lie in Hadamard space, so do V and the choice between two levels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qatplan.quant.hadamard import rotate
from qatplan.quant.quantizer import Affine, dequantize

ZETA = 1.1
GAMMA = -0.1
"""The sigmoid is stretched to (gamma, zeta) and cut to [0, 1], so that h can reach both ends (AdaRound, eq. 23)."""


class LearnedRounding:
    """The rows of one weight between the level below and the level above each number."""

    def __init__(self, rows: Tensor, grid: Affine, levels: int) -> None:
        self.grid = grid
        self.levels = levels
        position = rotate(rows.detach(), grid.block) / grid.step - grid.zero
        self.below = position.floor()
        share = (position - self.below - GAMMA) / (ZETA - GAMMA)
        self.choice = nn.Parameter(torch.logit(share))
        """V, of the shape of the rows; a weight is rounded up where it is 0 or more."""

    def upward(self) -> Tensor:
        """h(V), how far each number is on its way from the level below to the one above, 0 to 1."""
        return (torch.sigmoid(self.choice) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)

    def soft(self, upward: Tensor) -> Tensor:
        """The rows at h = `upward`, differentiable in it."""
        return dequantize((self.below + upward).clamp(0, self.levels - 1), self.grid)

    def codes(self) -> Tensor:
        """The codes that V decides for: integers held in the type of the rows."""
        return (self.below + (self.choice.detach() >= 0)).clamp(0, self.levels - 1)

    def hard(self) -> Tensor:
        """The rows at those codes."""
        return dequantize(self.codes(), self.grid)


def undecided(upward: Tensor, exponent: float) -> Tensor:
    """sum(1 - |2 h - 1|^b): 0 where every weight is decided, the more lenient in between the larger b = `exponent`."""
    return (1 - (2 * upward - 1).abs().pow(exponent)).sum()
