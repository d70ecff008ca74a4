"""The gradients of the four ways to learn an asymmetric range, against the published table written out per value."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from qatplan.quant import registry
from qatplan.training.model.quantized import ActivationQuantizer


def rows(seed: int, shape: tuple[int, int] = (4, 60)) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64) + 0.4


def of_scale_and_offset(x: float, s: float, offset: float, k: int) -> tuple[float, float, float]:
    """(dx, ds, dz) of x_hat = s (clamp(round(x/s) - z, 0, k) + z)."""
    z = round(offset)
    if round(x / s) - z < 0:
        return 0.0, z, s
    if round(x / s) - z > k:
        return 0.0, z + k, s
    return 1.0, round(x / s) - x / s, 0.0


def of_ends(x: float, low: float, high: float, k: int) -> tuple[float, float, float]:
    """(dx, dlow, dhigh) with s = (high - low) / k and z = round(low / s)."""
    s = (high - low) / k
    z = round(low / s)
    e, eps = round(x / s) - x / s, z - low / s
    if round(x / s) - z < 0:
        return 0.0, 1 - eps / k, eps / k
    if round(x / s) - z > k:
        return 0.0, -eps / k, 1 + eps / k
    return 1.0, -e / k, e / k


def sigma(t: float) -> float:
    return 1 / (1 + math.exp(-t))


def expected(name: str, x: float, row: np.ndarray, first: float, second: float, k: int) -> tuple[float, float, float]:
    """The slopes of one quantized value by itself and by the two parameters of its range."""
    if name == "scale-offset":
        return of_scale_and_offset(x, first, second, k)
    if name == "min-max":
        return of_ends(x, first, second, k)
    if name == "beta-gamma":
        own, low, high = of_ends(x, first * row.min(), second * row.max(), k)
        return own, low * row.min(), high * row.max()
    own, low, high = of_ends(x, sigma(first) * row.min(), sigma(second) * row.max(), k)
    slopes = [sigma(t) * (1 - sigma(t)) for t in (first, second)]
    return own, low * row.min() * slopes[0], high * row.max() * slopes[1]


FACTORS = {
    "scale-offset": (0.6, 0.7),
    "min-max": (0.5, 0.6),
    "beta-gamma": (0.5, 0.6),
    "beta-gamma-sigmoid": (0.1, 0.2),
}
"""Shares of the starting parameters at which values are clipped on both sides."""


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("name", FACTORS)
def test_gradients_are_the_published_table(name: str, bits: float) -> None:
    quantizer = registry.create(name, bits)
    weight, upstream, k = rows(1).requires_grad_(), rows(2).numpy(), 2**bits - 1
    pairs = zip(quantizer.start(weight), FACTORS[name], strict=True)
    ranges = [(start * factor).requires_grad_() for start, factor in pairs]
    (quantizer.fake_quantize(weight, ranges, 240) * torch.from_numpy(upstream)).sum().backward()
    values = weight.detach().numpy()
    slopes = np.array(
        [
            [expected(name, x, row, ranges[0][i].item(), ranges[1][i].item(), k) for x in row]
            for i, row in enumerate(values)
        ]
    )
    result = quantizer.fake_quantize(weight, ranges, 240).detach().numpy()
    clipped = slopes[..., 0] == 0
    assert (clipped & (result > values)).any(), "some are clipped low"
    assert (clipped & (result < values)).any(), "some are clipped high"
    assert weight.grad is not None
    np.testing.assert_array_equal(weight.grad.numpy(), slopes[..., 0] * upstream)
    for index, value in enumerate(ranges, 1):
        assert value.grad is not None
        np.testing.assert_allclose(value.grad.numpy()[:, 0], (slopes[..., index] * upstream).sum(axis=1), rtol=1e-9)


@pytest.mark.parametrize("name", FACTORS)
def test_the_start_covers_the_extremes(name: str) -> None:
    quantizer = registry.create(name, 8)
    weight = rows(3)
    found = quantizer.fake_quantize(weight, quantizer.start(weight), 240)
    step = (weight.amax(dim=1, keepdim=True) - weight.amin(dim=1, keepdim=True)) / 255
    # The sigmoid form starts at sigma(4) = 0.982 of the extremes.
    outside = 0.019 * weight.abs().max() if name == "beta-gamma-sigmoid" else 0.0
    assert ((found - weight).abs() <= step * 0.501 + outside).all()


def test_ends_far_from_zero_keep_their_place() -> None:
    quantizer = registry.create("min-max", 2)
    row = torch.linspace(100.0, 103.0, 4)[None]
    torch.testing.assert_close(quantizer.fake_quantize(row, quantizer.start(row), 4), row)


def test_ends_that_cross_leave_the_smallest_step() -> None:
    quantizer = registry.create("min-max", 4)
    row = rows(4).float()
    low, high = (torch.full((4, 1), value, requires_grad=True) for value in (0.5, -0.5))
    result = quantizer.fake_quantize(row, [low, high], 240)
    result.sum().backward()
    assert result.isfinite().all()
    assert low.grad is not None
    assert low.grad.isfinite().all()


@pytest.mark.parametrize("name", ["rtn", "beta-gamma", "beta-gamma-sigmoid"])
def test_every_token_has_a_range_of_its_own(name: str) -> None:
    quantizer = ActivationQuantizer(registry.create(name, 8), "token")
    x = rows(5, (6, 16)).view(2, 3, 16) * torch.tensor([1.0, 1e3, 1e-2], dtype=torch.float64)[:, None]
    ranges = quantizer.start(x)
    assert all(value.shape == (1, 1) for value in ranges)
    alone = torch.stack([quantizer.fake(token[None], ranges)[0] for token in x.view(6, 16)]).view_as(x)
    assert torch.equal(quantizer.fake(x, ranges), alone)
    largest = x.abs().amax(dim=-1, keepdim=True)
    assert ((quantizer.fake(x, ranges) - x).abs() <= 0.025 * largest).all()


def test_one_range_for_all_activations_is_started_from_their_extremes() -> None:
    quantizer = ActivationQuantizer(registry.create("min-max", 8), "tensor")
    x = rows(6, (6, 16)).view(2, 3, 16)
    low, high = quantizer.start(x)
    assert (low.item(), high.item()) == (x.min().item(), x.max().item())
    assert ((quantizer.fake(x, [low, high]) - x).abs() <= (high - low) / 255 * 0.501).all()
