"""QuEST and its rotation: the Gaussian-optimal grid by quadrature, the gradient written out, rotated codes stored."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import hadamard as scipy_hadamard
from scipy.optimize import minimize_scalar
from scipy.stats import norm
from torch import Tensor

from qatplan.quant import hadamard, registry, stored
from qatplan.quant.hadamard import block_size, rotate
from qatplan.quant.lsq import lsq
from qatplan.quant.quantizer import SCALE_FLOOR, dequantize
from qatplan.quant.quest import HIGHEST, Quest, _ForCompilers, _on_grid
from qatplan.quant.registry import GroupSize
from qatplan.quant.rounding import round_to_nearest
from qatplan.quant.weight import QuantizedWeight, rounded
from qatplan.training.model.quantized import ActivationQuantizer
from qatplan.training.post_training.adaround import LearnedRounding


def rows(seed: int, shape: tuple[int, int] = (5, 48)) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fake(weight: Tensor, bits: float) -> Tensor:
    """A weight on QuEST's grid, a range per row."""
    return QuantizedWeight(weight, Quest(bits), None).fake(weight)


# Blocks of 8 come two at a time where their number is even, blocks of 128 in factors.
@pytest.mark.parametrize(("count", "block"), [(6, 2), (3, 8), (6, 8), (1, 16), (5, 64), (1, 128), (6, 128)])
def test_rotation_is_scipys_hadamard_matrix_and_its_own_inverse_and_gradient(count: int, block: int) -> None:
    x, upstream = rows(0, (count, block)).requires_grad_(), rows(1, (count, block))
    matrix = scipy_hadamard(block) / np.sqrt(block)
    turned = rotate(x, block)
    np.testing.assert_allclose(turned.detach(), x.detach().numpy() @ matrix, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(rotate(turned, block), x, rtol=1e-6, atol=1e-6)
    (gradient,) = torch.autograd.grad(turned, x, upstream)
    np.testing.assert_allclose(gradient, upstream.numpy() @ matrix.T, rtol=1e-6, atol=1e-6)


def test_what_is_kept_on_a_gpu_serves_every_size_in_a_compiled_program() -> None:
    """Two block sizes are in every model, and no GPU in the machine that tests."""

    def product(wide: Tensor, narrow: Tensor) -> tuple[Tensor, Tensor]:
        return wide @ hadamard._kept(wide, 64), narrow @ hadamard._kept(narrow, 8)

    x = rows(0, (4, 72)).float()
    found = torch.compile(product, backend="aot_eager", fullgraph=True)(x[:, :64], x[:, 64:])
    for value, part in zip(found, (x[:, :64], x[:, 64:]), strict=True):
        torch.testing.assert_close(value, rotate(part, part.shape[1]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bits", HIGHEST)
def test_the_gradient_ends_half_a_step_beyond_the_grid_also_where_it_is_compiled(bits: float) -> None:
    levels = Quest(bits).levels
    end = torch.tensor(levels / 2)
    inside, outside = torch.nextafter(end, 0 * end), torch.nextafter(end, 2 * end)
    values = torch.stack([inside, -inside, outside, -outside])[None, :]
    step, upstream = torch.ones(1, 1), torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    highest = (levels - 1) / 2
    for way in (_on_grid, _ForCompilers.apply):
        x = values.clone().requires_grad_()
        result = way(x, step, levels)
        assert result.tolist() == [[highest, -highest, highest, -highest]]
        (gradient,) = torch.autograd.grad(result, x, upstream)
        assert gradient.tolist() == [[1.0, 2.0, 0.0, 0.0]]
        assert torch.equal(x, values)


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
    result = fake(weight, bits)
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


# In the model and, with one dimension more in front, in a stack of models.
@pytest.mark.parametrize("models", [(), (2,)])
@pytest.mark.parametrize(("features", "block"), [(24, 8), (128, 128)])
def test_an_activation_meets_its_weight_in_the_rotated_space(
    models: tuple[int, ...], features: int, block: int
) -> None:
    quantizer = ActivationQuantizer(Quest(4), "token")
    x, weight = rows(7, (*models, 6, features)).requires_grad_(), rows(8, (*models, 5, features)).requires_grad_()
    upstream = rows(9, (*models, 6, 5))
    result = quantizer.fake(x, ()) @ rotate(weight, quantizer.block(features)).mT
    (result * upstream).sum().backward()
    # As it is defined: rotated, quantized, rotated back, multiplied by the weight.
    matrix = np.kron(np.eye(features // block), scipy_hadamard(block)) / np.sqrt(block)
    given, matrix_of_weight = x.detach().numpy(), weight.detach().numpy()
    turned = given @ matrix
    step = 2 * HIGHEST[4] / 15 * np.sqrt((given**2).mean(axis=-1, keepdims=True))
    nearest = (np.clip(np.round(turned / step + 7.5), 0, 15) - 7.5) * step
    quantized = nearest @ matrix.T
    np.testing.assert_allclose(result.detach(), quantized @ np.swapaxes(matrix_of_weight, -1, -2), rtol=1e-5, atol=1e-5)
    trusted = np.abs(nearest - turned) <= step / 2
    assert 0.9 < trusted.mean() < 1
    expected = (((upstream.numpy() @ matrix_of_weight) @ matrix) * trusted) @ matrix.T
    assert x.grad is not None
    assert weight.grad is not None
    np.testing.assert_allclose(x.grad, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(weight.grad, np.swapaxes(upstream.numpy(), -1, -2) @ quantized, rtol=1e-5, atol=1e-5)


def test_only_a_quantizer_that_rotates_has_blocks() -> None:
    for entry in registry.ENTRIES:
        quantizer = ActivationQuantizer(registry.create(entry.name, 8), entry.activations[0])
        assert quantizer.block(48) == (16 if entry.rotates else 1)


@pytest.mark.parametrize("name", ["quest", "paretoq"])
@pytest.mark.parametrize("group_size", [None, 8, "tensor"])
@pytest.mark.parametrize("block", [1, 8, 16])
def test_a_weight_comes_rotated_as_it_is_asked_for(name: str, group_size: GroupSize, block: int) -> None:
    weight, upstream = rows(12, (6, 48)).double().requires_grad_(), rows(13, (6, 48)).double()
    quantized = QuantizedWeight(weight, registry.create(name, 4), group_size)
    expected = rotate(quantized.fake(weight), block)
    found = quantized.fake(weight, block)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    gradients = [torch.autograd.grad((of * upstream).sum(), weight) for of in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e15, 1e30, 1e37])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_step_follows_the_mean_square_of_small_and_huge_rows(size: float, kind: torch.dtype) -> None:
    x = (rows(11, (4, 128)) * size).to(kind)
    expected = 2 * HIGHEST[1] * x.double().square().mean(dim=1, keepdim=True).sqrt()
    step = Quest(1).affine(x, ()).step
    assert step.dtype == kind
    torch.testing.assert_close(step.double(), expected, rtol=1e-5 if kind == torch.float32 else 0.01, atol=0)
    beside = Quest(1).affine(torch.cat([x, torch.ones_like(x)]), ()).step
    assert torch.equal(beside[: len(x)].to(kind), step), "what other rows are changes nothing"
    tiny = Quest(1).affine(torch.full((1, 128), 1e-30, dtype=kind), ()).step
    assert tiny.item() == pytest.approx(SCALE_FLOOR, rel=0.01)


def test_scaling_scales_the_result_and_signs_flip_it() -> None:
    weight = rows(3)
    once = fake(weight, 4)
    assert torch.equal(fake(weight * 4, 4), once * 4)
    torch.testing.assert_close(fake(-weight, 4), -once)


def test_rotated_codes_are_stored_and_give_the_weight_back() -> None:
    weight = rows(4, (8, 32)).float()
    quantized = QuantizedWeight(weight, Quest(4), 16)
    found = quantized.rounded(weight)
    assert found.grid.block == 16
    torch.testing.assert_close(found.values(), quantized.fake(weight))
    torch.testing.assert_close(stored.store(found).weight(), quantized.fake(weight))


def test_rounding_after_training_searches_the_rotated_space() -> None:
    weight = rows(6, (4, 64)) * 0.1
    weight[:, 7] = 3.0
    codes, grid = round_to_nearest(weight, Quest(4))
    _, straight = round_to_nearest(weight, lsq(4))
    assert (grid.block, straight.block) == (64, 1)
    error = (dequantize(codes, grid) - weight).square().sum()
    own = (fake(weight, 4) - weight).square().sum()
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
    error = (fake(weight, 4) - weight).square().sum()
    unrotated = Quest(4).fake_quantize(weight, (), 256)
    assert error < 0.3 * (unrotated - weight).square().sum()
