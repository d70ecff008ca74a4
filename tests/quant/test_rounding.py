"""Rounding on asymmetric grids, AdaRound's soft rounding and the bits of important neurons, against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qatplan.quant.lsq import lsq
from qatplan.quant.paretoq import paretoq
from qatplan.quant.quantizer import Quantizer, dequantize
from qatplan.quant.rounding import asymmetric_grid, nearest, round_to_nearest
from qatplan.quant.weight import rounded, rounded_by_row
from qatplan.training.post_training.adaround import LearnedRounding, undecided
from qatplan.training.post_training.methods import extra_bits, neuron_importance

GRIDS = [paretoq(1.58), paretoq(2), paretoq(3), paretoq(4), lsq(4)]


def normal(seed: int, shape: tuple[int, int], shift: float = 0.0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def least_error(row: np.ndarray, levels: int) -> float:
    """The least squared error over every zero point and a fine grid of steps, with numpy alone."""
    best = np.inf
    reach = max(row.max(), 0.0) - min(row.min(), 0.0)
    for zero in range(1 - levels, 1):
        for step in np.geomspace(0.15, 1.5, 400) * reach / (levels - 1):
            level = np.clip(np.round(row / step) - zero, 0, levels - 1) + zero
            best = min(best, float(((row - level * step) ** 2).sum()))
    return best


@pytest.mark.parametrize("levels", [2, 4, 8, 16])
@pytest.mark.parametrize("shift", [0.0, 0.8, -3.0])
def test_asymmetric_rounding_is_as_good_as_a_brute_force(levels: int, shift: float) -> None:
    rows = normal(levels, (3, 48), shift)
    grid = asymmetric_grid(rows, levels)
    assert torch.equal(grid.zero, grid.zero.round()), "whole steps"
    assert (grid.zero <= 0).all()
    assert (grid.zero >= 1 - levels).all()
    codes = nearest(rows, grid, levels)
    assert codes.min() >= 0
    assert codes.max() <= levels - 1
    found = (rows - dequantize(codes, grid)).square().sum(dim=1)
    for row, error in zip(rows.numpy(), found.tolist(), strict=True):
        assert error <= 1.005 * least_error(row, levels)


def test_a_skewed_row_loses_less_on_an_asymmetric_grid() -> None:
    rows = normal(1, (4, 64)).abs()
    grid = asymmetric_grid(rows, 8)
    found = (rows - dequantize(nearest(rows, grid, 8), grid)).square().sum()
    codes, symmetric = round_to_nearest(rows, paretoq(3))
    assert found < 0.4 * (rows - dequantize(codes, symmetric)).square().sum()


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_awkward_rows_round_to_finite_numbers(kind: torch.dtype) -> None:
    rows = torch.stack([torch.zeros(8), torch.full((8,), 3.0), torch.full((8,), -3.0), torch.arange(8) * 1e-30])
    rows = rows.to(kind)
    grid = asymmetric_grid(rows, 4)
    values = dequantize(nearest(rows, grid, 4), grid)
    assert values.isfinite().all()
    assert (values[0] == 0).all()
    torch.testing.assert_close(values[1:3], rows[1:3])
    for quantizer in GRIDS:
        weight = rounded(rows, quantizer, None)
        rounding = LearnedRounding(rows, weight.grid, quantizer.levels)
        assert rounding.choice.isfinite().all()
        assert rounding.hard().isfinite().all()


@pytest.mark.parametrize("quantizer", GRIDS, ids=lambda q: f"{type(q).__name__}-{q.bits:g}")
def test_soft_rounding_starts_at_the_weight_itself(quantizer: Quantizer) -> None:
    weight = normal(2, (5, 40))
    start = rounded(weight, quantizer, None)
    rounding = LearnedRounding(weight, start.grid, quantizer.levels)
    position = weight / start.grid.step - start.grid.zero
    free = (position >= 0) & (position <= quantizer.levels - 1)
    assert 0.5 < free.double().mean() < 1, "clipped weights too"
    soft = rounding.soft(rounding.upward())
    torch.testing.assert_close(soft[free], weight[free], rtol=1e-12, atol=1e-12)
    ends = dequantize(torch.where(position < 0, 0.0, quantizer.levels - 1.0), start.grid)
    torch.testing.assert_close(soft[~free], ends[~free])
    assert torch.equal(rounding.codes(), start.codes), "undisturbed it decides as rounding to nearest does"


def test_the_sign_of_v_decides_and_the_gradient_is_the_formula() -> None:
    weight = normal(3, (4, 30))
    start = rounded(weight, paretoq(3), None)
    rounding = LearnedRounding(weight, start.grid, 8)
    with torch.no_grad():
        rounding.choice.copy_(normal(4, (4, 30)) * 4)
    position = weight / start.grid.step - start.grid.zero
    expected = (position.floor() + (rounding.choice >= 0)).clamp(0, 7)
    assert torch.equal(rounding.codes(), expected)
    rounding.soft(rounding.upward()).sum().backward()
    v = rounding.choice.detach().numpy()
    sigma = 1 / (1 + np.exp(-v))
    stretched = 1.2 * sigma - 0.1
    code = np.floor(position.numpy()) + np.clip(stretched, 0, 1)
    passes = (stretched > 0) & (stretched < 1) & (code > 0) & (code < 7)
    slope = start.grid.step.numpy() * 1.2 * sigma * (1 - sigma) * passes
    assert rounding.choice.grad is not None
    np.testing.assert_allclose(rounding.choice.grad.numpy(), slope, rtol=1e-9, atol=1e-15)


def test_only_undecided_weights_are_punished() -> None:
    h = torch.tensor([0.0, 1.0, 0.5, 0.25], dtype=torch.float64)
    assert float(undecided(h, 2)) == pytest.approx(0 + 0 + 1 + (1 - 0.25))
    assert float(undecided(h, 20)) == pytest.approx(1 + (1 - 0.5**20))


def test_importance_is_the_sum_over_a_neurons_weights() -> None:
    weight = torch.tensor([[1.0, -2.0], [0.0, 3.0]])
    gradient = torch.tensor([[0.5, 0.5], [9.0, -1.0]])
    assert neuron_importance(weight, gradient).tolist() == [1.5, 3.0]


def test_the_average_of_the_bits_is_exact_and_goes_by_rank() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs, inputs = {"a": 30, "b": 17, "c": 21}, {"a": 8, "b": 8, "c": 32}
    importance = {name: torch.rand(count, generator=generator) for name, count in outputs.items()}
    extra = extra_bits(importance, inputs, 0.25)
    for size in (8, 32):
        names = [name for name in inputs if inputs[name] == size]
        bits, rank = (torch.cat([part[name] for name in names]) for part in (extra, importance))
        assert int(bits.sum()) == 0
        assert (bits == 1).sum() == int(0.25 * len(bits))
        assert rank[bits == 1].min() > rank[bits == 0].max()
        assert rank[bits == -1].max() < rank[bits == 0].min()
    equal = extra_bits({"a": torch.zeros(8)}, {"a": 4}, 0.25)["a"]
    assert equal.tolist() == [-1, -1, 0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("group_size", [None, 8])
def test_rows_of_a_neuron_have_its_bits(group_size: int | None) -> None:
    weight = normal(5, (6, 16))
    choice = torch.tensor([0, 1, -1, 0, 1, -1])
    mixed = rounded_by_row(weight, {step: paretoq(4 + step) for step in (-1, 0, 1)}, choice, group_size)
    per_neuron = 1 if group_size is None else 2
    assert mixed.bits.view(6, per_neuron)[:, 0].tolist() == [4, 5, 3, 4, 5, 3]
    for step in (-1, 0, 1):
        alone = rounded(weight, paretoq(4 + step), group_size)
        assert torch.equal(mixed.values()[choice == step], alone.values()[choice == step])
        assert mixed.codes.view(6, -1)[choice == step].max() <= 2 ** (4 + step) - 1
