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
from torch import Tensor

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


def first_weights(shape: Shape, generator: torch.Generator) -> dict[str, Tensor]:
    """The tensors of an untrained model by name, in the order the forward function takes them.

    Embedding, then per layer attention norm, query-key-value (3 width, width), output (width, width), feed-forward
    norm, gate-and-up (2 feed_forward, width), down (width, feed_forward), then the final norm.
    """
    width, hidden = shape.width, shape.feed_forward
    # Matrices start at 1/sqrt(inputs); what is added to the residual stream is divided by sqrt(2 layers), so that the
    # stream's variance does not grow with depth. The embedding is half that, for calm first logits.
    residual = 1 / math.sqrt(2 * shape.layers)

    def matrix(outputs: int, inputs: int, gain: float = 1.0) -> Tensor:
        return torch.randn(outputs, inputs, generator=generator) * gain / math.sqrt(inputs)

    weights = {"embedding": matrix(shape.vocabulary, width, 0.5)}
    for layer in range(shape.layers):
        block = (
            torch.ones(width), matrix(3 * width, width), matrix(width, width, residual),
            torch.ones(width), matrix(2 * hidden, width), matrix(width, hidden, residual),
        )  # fmt: skip
        weights |= {f"blocks.{layer}.{name}": tensor for name, tensor in zip(BLOCK_TENSORS, block, strict=True)}
    return {**weights, "norm": torch.ones(width)}


def rms_norm(x: Tensor, gain: Tensor) -> Tensor:
    """Root-mean-square normalisation over the last dimension."""
    return functional.rms_norm(x, (x.shape[-1],), gain, NORM_EPSILON)


ONE_MODEL = Products(look_up=functional.embedding, multiply=functional.linear, normalise=rms_norm)


def _stacked_products(models: int) -> Products:
    """How the weights of so many models, each with one dimension more in front, meet their common stream.

    Everything but the products with weights is the same for all models, so a stack of n is one model that sees n times
    as many sequences: the stream is (n * sequences, sequence, width), and each model's part of it meets that model's
    weights in a batched product.
    """

    def look_up(tokens: Tensor, embedding: Tensor) -> Tensor:
        vocabulary, width = embedding.shape[1:]
        first = vocabulary * torch.arange(models, device=tokens.device)[:, None]
        rows = (tokens.view(models, -1) + first).view(tokens.shape)
        return functional.embedding(rows, embedding.view(models * vocabulary, width))

    def multiply(x: Tensor, weight: Tensor) -> Tensor:
        result = x.reshape(models, -1, x.shape[-1]) @ weight.transpose(1, 2)
        return result.view(*x.shape[:-1], weight.shape[1])

    def normalise(x: Tensor, gain: Tensor) -> Tensor:
        even = functional.rms_norm(x, (x.shape[-1],), None, NORM_EPSILON)
        return (even.view(models, -1, x.shape[-1]) * gain[:, None, :]).view(x.shape)

    return Products(look_up=look_up, multiply=multiply, normalise=normalise)


def _stacked_feed(feed: Feed, models: int) -> Feed:
    """`feed` applied to each model's part of the stream, with that model's part of the tensors it takes."""

    def quantize(x: Tensor, site: int, ranges: Sequence[Tensor]) -> Tensor:
        parts = enumerate(x.chunk(models))
        return torch.cat([feed(part, site, [value[number] for value in ranges]) for number, part in parts])

    return quantize


def make_forward(
    shape: Shape, sequence: int, device: torch.device, feed: Feed = unchanged, operations: Operations | None = None,
    models: int = 1,
) -> Forward:  # fmt: skip
    """The loss of a batch as a function of the weights in the order of `first_weights`.

    `operations` are eager ones unless given. The weights of several `models` have one dimension more in front.
    """
    products = ONE_MODEL if models == 1 else _stacked_products(models)
    if models > 1 and feed is not unchanged:
        feed = _stacked_feed(feed, models)
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
