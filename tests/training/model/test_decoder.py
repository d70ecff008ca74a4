"""The model against an independent float64 NumPy forward pass, its parameter counts, and causality."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from qatplan.errors import UsageError
from qatplan.quant.hadamard import block_size, rotate
from qatplan.quant.quest import Quest
from qatplan.training.model.decoder import first_weights, make_forward
from qatplan.training.model.operations import Operations, compiled_operations, eager_operations
from qatplan.training.model.quantized import ActivationQuantizer, activation_feed, input_block
from qatplan.training.shape import Shape, shape_of_width

SHAPE = Shape(vocabulary=17, width=16, layers=2, heads=2, feed_forward=24)


def reference_losses(named: dict[str, np.ndarray], shape: Shape, tokens: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Loss of every token, written with loops from the definition of the architecture."""

    def rms(x: np.ndarray, gain: np.ndarray) -> np.ndarray:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * gain

    length, size = len(tokens), shape.head_size
    angle = np.arange(length)[:, None] * 10000.0 ** (-np.arange(0, size, 2) / size)

    def rotate(x: np.ndarray) -> np.ndarray:
        a, b = x[:, : size // 2], x[:, size // 2 :]
        return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], 1)

    stream = named["embedding"][tokens]
    for layer in range(shape.layers):
        block = {key.split(".")[-1]: value for key, value in named.items() if key.startswith(f"blocks.{layer}.")}
        heads = rms(stream, block["attention_norm"]) @ block["query_key_value"].T
        query, key, value = np.split(heads, 3, axis=1)
        mixed = np.zeros_like(stream)
        for head in range(shape.heads):
            part = slice(head * size, (head + 1) * size)
            scores = rotate(query[:, part]) @ rotate(key[:, part]).T / np.sqrt(size)
            scores[np.triu_indices(length, 1)] = -np.inf
            weight = np.exp(scores - scores.max(1, keepdims=True))
            mixed[:, part] = weight / weight.sum(1, keepdims=True) @ value[:, part]
        stream = stream + mixed @ block["output"].T
        gate, up = np.split(rms(stream, block["feed_forward_norm"]) @ block["gate_up"].T, 2, axis=1)
        stream = stream + (gate / (1 + np.exp(-gate)) * up) @ block["down"].T
    logits = rms(stream, named["norm"]) @ named["embedding"].T
    logits -= logits.max(1, keepdims=True)
    return np.log(np.exp(logits).sum(1)) - logits[np.arange(length), targets]


@pytest.mark.parametrize("operations", [eager_operations, compiled_operations])
@pytest.mark.parametrize("length", [12, 11])
def test_forward_is_the_architecture(operations: Callable[..., Operations], length: int) -> None:
    weights = first_weights(SHAPE, torch.Generator().manual_seed(0))
    tokens = torch.randint(0, 17, (3, length), generator=torch.Generator().manual_seed(1))
    targets = torch.randint(0, 17, (3, length), generator=torch.Generator().manual_seed(2))
    device = torch.device("cpu")
    inner = operations(length, SHAPE.head_size, device)
    found = make_forward(SHAPE, length, device, operations=inner)(list(weights.values()), tokens, targets)
    named = {name: weight.double().numpy() for name, weight in weights.items()}
    expected = [
        reference_losses(named, SHAPE, t, y).mean() for t, y in zip(tokens.numpy(), targets.numpy(), strict=True)
    ]
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=2e-6)


def test_multiplying_in_the_rotated_space_is_multiplying_what_was_rotated_back() -> None:
    quantizer = ActivationQuantizer(Quest(4), "token")

    def back(x: Tensor, site: int, ranges: Sequence[Tensor]) -> Tensor:
        return rotate(quantizer.fake(x, ranges), block_size(x.shape[-1]))

    named = first_weights(SHAPE, torch.Generator().manual_seed(0))
    tokens = torch.randint(0, 17, (3, 12), generator=torch.Generator().manual_seed(1))
    targets = torch.randint(0, 17, (3, 12), generator=torch.Generator().manual_seed(2))
    weights = [weight.double().requires_grad_() for weight in named.values()]
    losses, gradients = [], []
    turned = [
        rotate(weight, input_block(name, weight.shape[-1], quantizer))
        for name, weight in zip(named, weights, strict=True)
    ]
    for feed, used in ((activation_feed(quantizer), turned), (back, weights)):
        loss = make_forward(SHAPE, 12, torch.device("cpu"), feed)(used, tokens, targets)
        losses.append(loss.detach())
        gradients.append(torch.autograd.grad(loss.sum(), weights))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-6, atol=0)
    # Gradients pass the loss, which is taken in float32.
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-6)
    full = make_forward(SHAPE, 12, torch.device("cpu"))(weights, tokens, targets)
    assert (full - losses[0]).abs().max() > 1e-4, "4 bits are seen"


@pytest.mark.parametrize("width", [16, 24, 40, 64, 128, 256, 768])
def test_parameters_are_counted_by_group(width: int) -> None:
    shape = shape_of_width(width)
    if width <= 256:
        weights = first_weights(shape, torch.Generator().manual_seed(0))
        sizes = {name: weight.numel() for name, weight in weights.items()}
        assert sum(sizes.values()) == shape.n_total
        assert sizes["embedding"] == shape.n_embedding
    assert shape.n_embedding + shape.n_nonembedding == shape.n_total
    assert shape.width % shape.heads == 0
    assert shape.head_size % 2 == 0


def test_the_family_spans_twenty_thousand_to_a_hundred_million() -> None:
    assert shape_of_width(24).n_total == 20_088
    assert 75e6 < shape_of_width(768).n_total < shape_of_width(832).n_total < 110e6
    assert (shape_of_width(128).layers, shape_of_width(256).layers) == (4, 6)
    sizes = [shape_of_width(width).n_total for width in range(16, 1025, 8)]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("width", [0, -8, 12, 25, 2048])
def test_impossible_widths_are_refused(width: int) -> None:
    with pytest.raises(UsageError, match="multiple of 8 from 16 to 1024"):
        shape_of_width(width)
