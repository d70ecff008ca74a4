"""A Llama-2-like decoder as a pure function of its weights: RMSNorm, rotary positions, SwiGLU, tied embedding.

The weights are passed in, so the same compiled function serves full precision and every quantizer: a quantizer only
changes which tensors arrive.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from qatplan.training.model.operations import Operations, eager_operations
from qatplan.training.shape import Shape

NORM_EPSILON = 1e-5

BLOCK_TENSORS = ("attention_norm", "query_key_value", "output", "feed_forward_norm", "gate_up", "down")
"""The tensors of a layer in the order the forward function takes them."""

SITES = ("query_key_value", "output", "gate_up", "down")
"""The tensors of a layer whose inputs are quantized where activations are; site 4 layer + i is the i-th of a layer."""

Forward = Callable[[list[Tensor], Tensor, Tensor], Tensor]
"""(weights, tokens (batch, sequence), targets (batch, sequence)) -> mean loss of each sequence, nats per token.

Behind the weights, in the same list, come the tensors that the forward function's `Feed` takes.
"""

Feed = Callable[[Tensor, int, Sequence[Tensor]], Tensor]
"""(input of a linear layer, its site, the tensors behind the weights) -> the input that is multiplied.

It may be rotated; the weight of the layer is then given rotated as well.
"""


def unchanged(x: Tensor, site: int, ranges: Sequence[Tensor]) -> Tensor:
    """The feed of a model whose activations are not quantized."""
    return x


@dataclass(frozen=True, kw_only=True)
class Products:
    """How weights meet the stream (batch, sequence, width): those of one model, or of a stack of models."""

    look_up: Callable[[Tensor, Tensor], Tensor]
    """(tokens (batch, sequence), embedding) -> stream."""
    multiply: Callable[[Tensor, Tensor], Tensor]
    """(stream, matrix) -> outputs of a linear layer."""
    normalise: Callable[[Tensor, Tensor], Tensor]
    """(stream, gain) -> root-mean-square normalisation over the last dimension."""


class Decoder(nn.Module):
    """The parameters of one model, in a fixed order: embedding, then per layer six tensors, then the final norm.

    Per layer: attention norm, query-key-value (3 width, width), output (width, width), feed-forward norm,
    gate-and-up (2 feed_forward, width), down (width, feed_forward).
    """

    def __init__(self, shape: Shape, generator: torch.Generator) -> None:
        super().__init__()
        self.shape = shape
        width, hidden = shape.width, shape.feed_forward
        # Matrices start at 1/sqrt(inputs); what is added to the residual stream is divided by sqrt(2 layers), so that
        # the stream's variance does not grow with depth. The embedding is half that, for calm first logits.
        residual = 1 / math.sqrt(2 * shape.layers)

        def matrix(outputs: int, inputs: int, gain: float = 1.0) -> nn.Parameter:
            return nn.Parameter(torch.randn(outputs, inputs, generator=generator) * gain / math.sqrt(inputs))

        self.embedding = matrix(shape.vocabulary, width, 0.5)
        self.blocks = nn.ModuleList(
            nn.ParameterDict(
                {
                    "attention_norm": nn.Parameter(torch.ones(width)),
                    "query_key_value": matrix(3 * width, width),
                    "output": matrix(width, width, residual),
                    "feed_forward_norm": nn.Parameter(torch.ones(width)),
                    "gate_up": matrix(2 * hidden, width),
                    "down": matrix(width, hidden, residual),
                }
            )
            for _ in range(shape.layers)
        )
        self.norm = nn.Parameter(torch.ones(width))

    def named_weights(self) -> list[tuple[str, Tensor]]:
        """Every tensor with its name, in the order `forward` takes them."""
        named = dict(self.named_parameters())
        inner = [f"blocks.{layer}.{name}" for layer in range(self.shape.layers) for name in BLOCK_TENSORS]
        return [(name, named[name]) for name in ("embedding", *inner, "norm")]


def rms_norm(x: Tensor, gain: Tensor) -> Tensor:
    """Root-mean-square normalisation over the last dimension."""
    return functional.rms_norm(x, (x.shape[-1],), gain, NORM_EPSILON)


ONE_MODEL = Products(look_up=functional.embedding, multiply=functional.linear, normalise=rms_norm)


def make_forward(
    shape: Shape, sequence: int, device: torch.device, feed: Feed = unchanged, operations: Operations | None = None,
    products: Products = ONE_MODEL,
) -> Forward:  # fmt: skip
    """The loss of a batch as a function of the weights in `Decoder.named_weights` order.

    `operations` are eager ones unless given; `products` say whether the weights are one model's or a stack's.
    """
    block = make_block(shape, sequence, device, feed, operations, products)
    count = 2 + len(BLOCK_TENSORS) * shape.layers

    def forward(weights: list[Tensor], tokens: Tensor, targets: Tensor) -> Tensor:
        ranges = weights[count:]
        embedding = weights[0]
        stream = products.look_up(tokens, embedding)
        for layer in range(shape.layers):
            stream = block(weights[1 + 6 * layer : 7 + 6 * layer], stream, layer, ranges)
        # The loss is taken in float32 whatever the matrices are multiplied in.
        logits = products.multiply(products.normalise(stream, weights[count - 1]), embedding).float()
        losses = functional.cross_entropy(logits.view(-1, shape.vocabulary), targets.reshape(-1), reduction="none")
        return losses.view(tokens.shape).mean(dim=1)

    return forward


Block = Callable[[list[Tensor], Tensor, int, Sequence[Tensor]], Tensor]
"""(the layer's tensors, stream (batch, sequence, width), number of the layer, tensors of the feed) -> stream."""


def make_block(
    shape: Shape, sequence: int, device: torch.device, feed: Feed = unchanged, operations: Operations | None = None,
    products: Products = ONE_MODEL,
) -> Block:  # fmt: skip
    """One decoder layer as a function of its tensors, in the order of `BLOCK_TENSORS`."""
    inner = operations or eager_operations(sequence, shape.head_size, device)

    def linear(x: Tensor, weight: Tensor, site: int, ranges: Sequence[Tensor]) -> Tensor:
        return products.multiply(feed(x, site, ranges), weight)

    def block(weights: list[Tensor], stream: Tensor, layer: int, ranges: Sequence[Tensor]) -> Tensor:
        batch, length, width = stream.shape
        attention_norm, query_key_value, output, feed_forward_norm, gate_up, down = weights
        site = len(SITES) * layer
        heads = linear(products.normalise(stream, attention_norm), query_key_value, site, ranges)
        query, key, value = heads.view(batch, length, 3, shape.heads, shape.head_size).permute(2, 0, 3, 1, 4)
        mixed = inner.attend(inner.rotate(query), inner.rotate(key), value)
        joined = mixed.transpose(1, 2).reshape(batch, length, width)
        stream = stream + linear(joined, output, site + 1, ranges)
        gate, up = linear(products.normalise(stream, feed_forward_norm), gate_up, site + 2, ranges).chunk(2, dim=-1)
        return stream + linear(inner.gate(gate, up), down, site + 3, ranges)

    return block
