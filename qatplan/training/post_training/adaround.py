"""AdaRound on a decoder, layer by layer: how a layer rounds is learned so that its output stays what it was.

The layers are taken in order. A layer gets as input the stream that the layers quantized before it make, and as target
what the full-precision model has at that place, so it can make up for what went wrong before it. Of each weight is
learned whether it is rounded down or up (Nagel et al., arXiv 2004.10568, and public code):

W_hat = s (clamp(floor(W / s - z) + h(V), 0, levels - 1) + z) with h(V) = clip(sigmoid(V) (zeta - gamma) + gamma, 0, 1).

The grid is the one of rounding to nearest and stays; V starts where W_hat = W, and a regulariser drives h to 0 or 1.
Where the grid's codes lie in Hadamard space, so do V and the choice between two levels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from qatplan.quant.hadamard import rotate
from qatplan.quant.quantizer import Affine, dequantize
from qatplan.training.model.decoder import BLOCK_TENSORS, Block
from qatplan.training.recipes import AdaRound

ZETA = 1.1
GAMMA = -0.1
"""The sigmoid is stretched to (gamma, zeta) and cut to [0, 1], so that h can reach both ends (AdaRound, eq. 23)."""
CARRIED = 8
"""Sequences that pass a layer at once where nothing is learned, which bounds the memory it takes."""

Layer = Callable[[list[Tensor], Tensor], Tensor]
"""(the layer's tensors in the order of `BLOCK_TENSORS`, stream) -> stream."""


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


def learn_rounding(
    weights: Mapping[str, Tensor], roundings: Mapping[str, LearnedRounding], embedding: Tensor, *, tokens: Tensor,
    full: Block, quantized: Block, ranges: Sequence[Tensor], recipe: AdaRound, seed: int, watch: Callable[[], None],
) -> None:  # fmt: skip
    """Learn all `roundings` (by name of the weight) from `tokens` (sequences, sequence).

    `weights` are in the order of `first_weights`, `embedding` is the quantized one, `full` and `quantized` are
    the layer without and with quantized activations (of `ranges`). `watch` is called before each step.
    """
    generator = torch.Generator().manual_seed(seed)
    target = functional.embedding(tokens, weights["embedding"])
    stream = functional.embedding(tokens, embedding)
    for layer in range((len(weights) - 2) // len(BLOCK_TENSORS)):
        exact = {name: weights[name] for name in (f"blocks.{layer}.{name}" for name in BLOCK_TENSORS)}
        parts = {name: roundings[name] for name in exact if name in roundings}
        plain, rounded = _at(full, layer, ()), _at(quantized, layer, ranges)
        target = _carried(plain, list(exact.values()), target)
        _learn(rounded, exact, parts, stream, target, recipe, generator, watch)
        decided = [parts[name].hard().view_as(weight) if name in parts else weight for name, weight in exact.items()]
        stream = _carried(rounded, decided, stream)


def _at(block: Block, layer: int, ranges: Sequence[Tensor]) -> Layer:
    return lambda tensors, stream: block(tensors, stream, layer, ranges)


@torch.enable_grad()  # type: ignore[untyped-decorator]
def _learn(
    layer: Layer, exact: Mapping[str, Tensor], roundings: Mapping[str, LearnedRounding], stream: Tensor, target: Tensor,
    recipe: AdaRound, generator: torch.Generator, watch: Callable[[], None],
) -> None:  # fmt: skip
    optimizer = torch.optim.Adam([r.choice for r in roundings.values()], lr=recipe.learning_rate)
    sequences = max(1, min(len(stream), recipe.batch_tokens // stream.shape[1]))
    for step in range(recipe.iterations):
        watch()
        picked = torch.randperm(len(stream), generator=generator)[:sequences].to(stream.device)
        upward = {name: rounding.upward() for name, rounding in roundings.items()}
        tensors = [
            roundings[name].soft(upward[name]).view_as(weight) if name in upward else weight
            for name, weight in exact.items()
        ]
        loss = (layer(tensors, stream[picked]) - target[picked]).square().sum(dim=-1).mean()
        exponent = exponent_at(recipe, step)
        if exponent is not None:
            loss = loss + recipe.regulariser * torch.stack([undecided(h, exponent) for h in upward.values()]).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def exponent_at(recipe: AdaRound, step: int) -> float | None:
    """b of the regulariser at a step, None while it is off."""
    free = recipe.free * recipe.iterations
    if step < free:
        return None
    share = (step - free) / (recipe.iterations - free)
    return recipe.first_exponent + share * (recipe.last_exponent - recipe.first_exponent)


@torch.no_grad()
def _carried(layer: Layer, tensors: list[Tensor], stream: Tensor) -> Tensor:
    return torch.cat([layer(tensors, part) for part in stream.split(CARRIED)])
