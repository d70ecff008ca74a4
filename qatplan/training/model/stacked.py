"""A stack of models of one shape as one program: their weights lie one behind the other, their batches too.

Everything but the products with weights is the same for all models, so a stack of n is one model (`make_forward`) that
sees n times as many sequences: the stream is (n * sequences, sequence, width), and each model's part of it meets that
model's weights in a batched product.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor

from qatplan.training.model.decoder import NORM_EPSILON, Feed, Products


def stacked_products(models: int) -> Products:
    """How the weights of so many models, each with one dimension more in front, meet their common stream."""

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


def stacked_feed(feed: Feed, models: int) -> Feed:
    """`feed` applied to each model's part of the stream, with that model's part of the tensors it takes."""

    def quantize(x: Tensor, site: int, ranges: Sequence[Tensor]) -> Tensor:
        parts = enumerate(x.chunk(models))
        return torch.cat([feed(part, site, [value[number] for value in ranges]) for number, part in parts])

    return quantize
