"""QuEST and its rotation: the Gaussian-optimal grid by quadrature, the gradient written out, rotated codes stored."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import hadamard as scipy_hadamard
from scipy.optimize import minimize_scalar
from scipy.stats import norm
from torch import Tensor

from qatplan.errors import UsageError
from qatplan.quant import stored
from qatplan.quant.adaround import LearnedRounding
from qatplan.quant.hadamard import block_size, rotate
from qatplan.quant.lsq import lsq
from qatplan.quant.quantizer import dequantize
from qatplan.quant.quest import HIGHEST, Quest
from qatplan.quant.rounding import round_to_nearest
from qatplan.quant.weight import QuantizedWeight, rounded


def rows(seed: int, shape: tuple[int, int] = (5, 48)) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("block", [2, 8, 128])
def test_rotation_is_scipys_hadamard_matrix_and_its_own_inverse(block: int) -> None:
    x = rows(0, (3, 2 * block))
    expected = x.numpy().reshape(-1, block) @ scipy_hadamard(block) / np.sqrt(block)
    np.testing.assert_allclose(rotate(x, block).numpy().reshape(-1, block), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(rotate(rotate(x, block), block), x, rtol=1e-6, atol=1e-6)


def test_blocks_divide_the_row() -> None:
    assert [block_size(size) for size in (1, 7, 24, 64, 80, 208, 256, 384)] == [1, 1, 8, 64, 16, 16, 128, 128]


@pytest.mark.parametrize("bits", HIGHEST)
def test_the_grid_is_the_best_for_a_gaussian(bits: float) -> None:
    levels = 3 if bits == 1.58 else 2 ** int(bits)
    x = np.linspace(-8, 8, 80001)
    density = norm.pdf(x)

    def error(highest: float) -> float:
        step = 2 * highest / (levels - 1)
        zero = -(levels - 1) / 2
        code = np.clip(np.round(x / step - zero), 0, levels - 1)
        return float(np.sum((x - (code + zero) * step) ** 2 * density))

    best = minimize_scalar(error, bounds=(0.5, 5), method="bounded", options={"xatol": 1e-6}).x
    assert HIGHEST[bits] == pytest.approx(best, abs=6e-4)


@pytest.mark.parametrize("bits", [1, 1.58, 2, 4])
def test_values_and_gradient_are_those_of_the_rotated_space(bits: float) -> None:
    quantizer = Quest(bits)
    weight, upstream = rows(1).requires_grad_(), rows(2)
    result = quantizer.fake_quantize(weight, (), 240)
    (result * upstream).sum().backward()
    matrix = np.kron(np.eye(3), scipy_hadamard(16)) / 4
    x = weight.detach().numpy()
    turned = x @ matrix
    step = 2 * HIGHEST[bits] / (quantizer.levels - 1) * np.sqrt((x**2).mean(axis=1, keepdims=True))
    grid = (np.arange(quantizer.levels) - (quantizer.levels - 1) / 2) * step[:, :, None]
    nearest = np.take_along_axis(grid, np.abs(turned[..., None] - grid).argmin(axis=2)[:, None], axis=2)[:, 0]
    np.testing.assert_allclose(result.detach(), nearest @ matrix.T, rtol=1e-6, atol=1e-6)
    trusted = np.abs(nearest - turned) <= step / 2
    assert 0 < trusted.mean() < 1
    assert weight.grad is not None
    np.testing.assert_allclose(weight.grad, ((upstream.numpy() @ matrix) * trusted) @ matrix.T, rtol=1e-6, atol=1e-6)


def test_scaling_scales_the_result_and_signs_flip_it() -> None:
    weight = rows(3)
    quantizer = Quest(4)
    once = quantizer.fake_quantize(weight, (), 240)
    assert torch.equal(quantizer.fake_quantize(weight * 4, (), 240), once * 4)
    torch.testing.assert_close(quantizer.fake_quantize(-weight, (), 240), -once)


def test_rotated_codes_are_stored_and_give_the_weight_back() -> None:
    weight = rows(4, (8, 32)).float()
    quantized = QuantizedWeight(weight, Quest(4), 16)
    codes, grid = quantized.codes(weight)
    assert grid.block == 16
    torch.testing.assert_close(dequantize(codes, grid).view(8, 32), quantized.fake(weight))
    kept = stored.store(codes, grid, shape=(8, 32), levels=16)
    torch.testing.assert_close(kept.weight(), quantized.fake(weight))
    with pytest.raises(UsageError, match="rotated"):
        stored.to_torchao(kept)


def test_rounding_after_training_searches_the_rotated_space() -> None:
    weight = rows(6, (4, 64)) * 0.1
    weight[:, 7] = 3.0
    codes, grid = round_to_nearest(weight, Quest(4))
    _, straight = round_to_nearest(weight, lsq(4))
    assert (grid.block, straight.block) == (64, 1)
    error = (dequantize(codes, grid) - weight).square().sum()
    own = (Quest(4).fake_quantize(weight, (), 256) - weight).square().sum()
    assert error <= own, "the step of least squared error is at least as good as the Gaussian one"
    assert error < 0.5 * (rounded(weight, lsq(4), None).values() - weight).square().sum()
    learned = LearnedRounding(weight, grid, 16)
    inside = (codes > 0) & (codes < 15)
    difference = rotate(learned.soft(learned.upward()).detach() - weight, 64)
    assert inside.float().mean() > 0.8
    assert difference[inside].abs().max() < 1e-6, "learned rounding starts at the weight itself"


def test_an_outlier_costs_less_when_it_is_spread() -> None:
    weight = rows(5, (4, 64)) * 0.1
    weight[:, 7] = 3.0
    spread = Quest(4)
    error = (spread.fake_quantize(weight, (), 256) - weight).square().sum()
    # Without rotation: an odd row is not rotated.
    alone = (spread.fake_quantize(weight[:, :63], (), 252) - weight[:, :63]).square().sum()
    assert error < 0.3 * alone
