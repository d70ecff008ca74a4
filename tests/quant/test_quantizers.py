"""Grids, gradients and invariants of the quantizers, against the formulas written out independently in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from qatplan.errors import UsageError
from qatplan.quant import registry
from qatplan.quant.lsq import lsq
from qatplan.quant.paretoq import paretoq
from qatplan.quant.quantizer import Affine, Quantizer, dequantize
from qatplan.quant.rounding import nearest, round_to_nearest
from qatplan.quant.weight import QuantizedWeight, rounded, rows_of

ALL = [paretoq(bits) for bits in (1, 1.58, 2, 3, 4, 6, 8)] + [lsq(bits) for bits in (2, 4)]


def rows(seed: int = 0, shape: tuple[int, int] = (6, 40)) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def name(quantizer: Quantizer) -> str:
    return f"{type(quantizer).__name__}-{quantizer.bits:g}"


@pytest.mark.parametrize(
    ("bits", "grid"),
    [
        (1, [-1, 1]),
        (1.58, [-2 / 3, 0, 2 / 3]),
        (2, [-3 / 4, -1 / 4, 1 / 4, 3 / 4]),
        (3, [-4, -3, -2, -1, 0, 1, 2, 3]),
        (4, list(range(-8, 8))),
        (6, list(range(-32, 32))),
    ],
)
def test_grid_has_exactly_the_stated_levels(bits: float, grid: list[float]) -> None:
    quantizer = paretoq(bits)
    assert quantizer.levels == len(grid)
    scale = torch.tensor([[2.0]], dtype=torch.float64)
    wide = torch.linspace(-2 * max(map(abs, grid)) - 5, 2 * max(map(abs, grid)) + 5, 20001, dtype=torch.float64)[None]
    found = torch.unique(quantizer.fake_quantize(wide * 2, [scale], wide.numel()))
    assert found.tolist() == pytest.approx([2 * level for level in grid], abs=1e-12)


def expected_initial(bits: float, weight: np.ndarray) -> np.ndarray:
    magnitude = np.abs(weight)
    if bits == 1:
        return magnitude.mean(axis=1)
    if bits in (1.58, 2):
        return magnitude.max(axis=1)
    return magnitude.max(axis=1) / (2 ** (bits - 1) - 1)


@pytest.mark.parametrize("bits", [1, 1.58, 2, 3, 4, 6])
def test_paretoq_starts_its_scale_as_its_code_does(bits: float) -> None:
    weight = rows(3)
    found = paretoq(bits).start(weight)[0].numpy()[:, 0]
    np.testing.assert_allclose(found, expected_initial(bits, weight.numpy()), rtol=1e-12)


def test_lsq_paper_start() -> None:
    weight = rows(4)
    expected = 2 * np.abs(weight.numpy()).mean(axis=1) / math.sqrt(7)
    np.testing.assert_allclose(lsq(4).start(weight)[0].numpy()[:, 0], expected, rtol=1e-12)


def expected_gradients(bits: float, w: float, s: float) -> tuple[float, float]:
    """(d x_hat / d w, d x_hat / d s) for one weight, straight from METHODS 3."""
    if bits == 1:
        return float(abs(w / s) <= 1), 1.0 if w >= 0 else -1.0
    if bits in (1.58, 2):
        levels, shift = (1.5, 0.0) if bits == 1.58 else (2.0, 0.5)
        top = (round(0.99 * levels - shift) + shift) / levels
        if w / s < -0.99:
            return 0.0, -top
        if w / s > 0.99:
            return 0.0, top
        return 1.0, (round(w / s * levels - shift) + shift) / levels - w / s
    lowest, highest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    if w / s < lowest:
        return 0.0, lowest
    if w / s > highest:
        return 0.0, highest
    return 1.0, round(w / s) - w / s


@pytest.mark.parametrize("bits", [1, 1.58, 2, 3, 4, 6])
def test_gradients_are_the_formulas(bits: float) -> None:
    quantizer = paretoq(bits)
    weight = rows(1, (4, 50)).requires_grad_()
    scale = (quantizer.start(weight)[0] * 0.5).requires_grad_()
    upstream = rows(2, (4, 50))
    (quantizer.fake_quantize(weight, [scale], 200) * upstream).sum().backward()
    weight_slope, scale_slope = np.empty((4, 50)), np.empty((4, 50))
    for i in range(4):
        for j in range(50):
            weight_slope[i, j], scale_slope[i, j] = expected_gradients(bits, weight[i, j].item(), scale[i, 0].item())
    assert 0 < weight_slope.mean() < 1, "both clipped and free weights must be covered"
    highest = 1 if bits <= 2 else 2 ** (bits - 1) - 1
    assert weight.grad is not None
    assert scale.grad is not None
    np.testing.assert_allclose(weight.grad.numpy(), weight_slope * upstream.numpy(), rtol=1e-12)
    expected = (scale_slope * upstream.numpy()).sum(axis=1) / math.sqrt(200 * highest)
    np.testing.assert_allclose(scale.grad.numpy()[:, 0], expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("quantizer", ALL, ids=name)
def test_rounding_beats_a_fine_brute_force(quantizer: Quantizer) -> None:
    weight = rows(7, (3, 64))
    codes, grid = round_to_nearest(weight, quantizer)
    found = (weight - dequantize(codes, grid)).square().sum(dim=1)
    largest = weight.abs().amax(dim=1, keepdim=True)
    best = torch.full((3,), torch.inf, dtype=torch.float64)
    for share in torch.linspace(0.002, 2.0, 4000, dtype=torch.float64):
        trial = Affine(step=largest * share, zero=grid.zero)
        error = (weight - dequantize(nearest(weight, trial, quantizer.levels), trial)).square().sum(dim=1)
        best = torch.minimum(best, error)
    assert (found <= best * 1.005).all()


def test_groups_have_their_own_scales() -> None:
    weight = rows(8, (4, 32)).float()
    weight[0, :8] *= 100
    quantized = QuantizedWeight(weight, paretoq(4), 8)
    (scale,) = quantized.ranges.current()
    assert scale.shape == (16, 1)
    error = quantized.fake(weight) - weight
    per_group = torch.stack([error[i // 4, (i % 4) * 8 : (i % 4) * 8 + 8] for i in range(16)])
    assert (per_group.abs() <= scale / 2 * 1.0001).all()
    assert (rounded(weight, paretoq(4), 8).values() - weight)[0, 8:].abs().max() < 0.5
    with pytest.raises(UsageError, match="does not divide"):
        rows_of(weight, 7)


def test_one_range_for_a_whole_tensor_is_that_of_its_single_row() -> None:
    weight = rows(10, (4, 32)).float()
    whole = QuantizedWeight(weight, paretoq(4), "tensor")
    alone = QuantizedWeight(weight.reshape(1, -1), paretoq(4), None)
    assert whole.ranges.current()[0].shape == (1, 1)
    assert torch.equal(whole.fake(weight), alone.fake(weight.reshape(1, -1)).view(4, 32))


def test_learned_ratio_is_the_scale_relative_to_its_start() -> None:
    weight = rows(9, (4, 32))
    quantized = QuantizedWeight(weight, paretoq(4), None)
    quantized.fake(weight).sum().backward()
    start = quantized.ranges.starts["scale"]
    scale = start.clone().requires_grad_()
    paretoq(4).fake_quantize(weight, [scale], 128).sum().backward()
    ratio = quantized.ranges.learned["scale"]
    assert scale.grad is not None
    assert ratio.grad is not None
    torch.testing.assert_close(ratio.grad, scale.grad * start)


def test_registry_refuses_what_there_is_not() -> None:
    with pytest.raises(UsageError, match="paretoq, lsq"):
        registry.entry("nonesuch")
    with pytest.raises(UsageError, match=r"1\.58, 2"):
        registry.create("paretoq", 2.5)
    for entry in registry.ENTRIES:
        for bits in entry.bits:
            assert registry.create(entry.name, bits).bits == bits
