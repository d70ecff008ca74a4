"""The one-knob family of models: a width decides layers, heads and feed-forward width. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from qatplan.errors import UsageError
from qatplan.models.architecture import Architecture
from qatplan.models.costs import flops_per_token
from qatplan.models.layout import Layout, of_architecture

SMALLEST_WIDTH = 16
LARGEST_WIDTH = 1024


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A Llama-2-like decoder with tied embeddings."""

    vocabulary: int
    """Number of tokens; 256 for bytes."""
    width: int
    """Size of the residual stream."""
    layers: int
    heads: int
    feed_forward: int
    """Hidden size of each SwiGLU block."""

    @property
    def head_size(self) -> int:
        return self.width // self.heads

    @property
    def architecture(self) -> Architecture:
        """The same model as the planner knows it."""
        return Architecture(
            name=f"width {self.width}", layers=self.layers, width=self.width, heads=self.heads, kv_heads=self.heads,
            head_size=self.head_size, feed_forward=self.feed_forward, vocabulary=self.vocabulary, tied=True,
        )  # fmt: skip

    @property
    def n_embedding(self) -> int:
        """Parameters of the (tied) embedding."""
        return int(_layout(self).embedding)

    @property
    def n_nonembedding(self) -> int:
        """Parameters of attention, feed-forward blocks and norms."""
        return int(_layout(self).nonembedding)

    @property
    def n_total(self) -> int:
        return int(_layout(self).parameters)


@cache
def _layout(shape: Shape) -> Layout:
    return of_architecture(shape.architecture)


@cache
def training_flops_per_token(shape: Shape, sequence: int) -> float:
    """Forward and backward, attention included (`qatplan.models.costs.flops_per_token`)."""
    return sum(flops_per_token(_layout(shape), sequence=sequence))


def shape_of_width(width: int, *, vocabulary: int = 256) -> Shape:
    """The family member of a width: a multiple of 8 from 16 to 1024 (13 thousand to 200 million parameters).

    layers = round(0.39 sqrt(width)), at least 2: 24 -> 2, 64 -> 3, 128 -> 4, 256 -> 6, 768 -> 11, so that
    width / layers grows from 12 to 70 as in published small-model ladders. Feed-forward width is 8/3 of the width to
    the nearest 16. Two heads up to width 191, then one head per 64 (fewer, larger heads are faster on CPU).
    """
    if width % 8 or not SMALLEST_WIDTH <= width <= LARGEST_WIDTH:
        raise UsageError(f"width {width} is not a multiple of 8 from {SMALLEST_WIDTH} to {LARGEST_WIDTH}.")
    heads = max(2, width // 64)
    while width % (2 * heads):
        heads -= 1
    return Shape(
        vocabulary=vocabulary,
        width=width,
        layers=max(2, round(0.39 * width**0.5)),
        heads=heads,
        feed_forward=max(16, 16 * round(8 * width / 3 / 16)),
    )
