"""Soft clamp and sigmoid rounding: their slopes against numerical derivatives of the functions they stand for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from qatplan.quant import continuous, registry
from qatplan.quant.continuous import SHARPNESS, TEMPERATURE, soft_clamp, times_rounding_slope
from qatplan.quant.lsq import lsq


def gate(t: float) -> float:
    return 1 / (1 + math.exp(-SHARPNESS * t)) if SHARPNESS * t > -700 else 0.0


def clamp_formula(x: float, a: float, b: float) -> float:
    return x * gate(x - a) * gate(b - x) + a * gate(a - x) + b * gate(x - b)


def rounding_formula(x: float, temperature: float) -> float:
    """floor(x) + sigma(T (x - floor(x) - 1/2)), its rise within a unit made 1."""
    part = x - math.floor(x) - 0.5
    return math.floor(x) + 0.5 + (1 / (1 + math.exp(-temperature * part)) - 0.5) / math.tanh(temperature / 4)


def slope_of(function: object, x: float, *constants: float) -> float:
    h = 1e-6
    assert callable(function)
    return float(function(x + h, *constants) - function(x - h, *constants)) / (2 * h)


@pytest.mark.parametrize("bounds", [(-2, 1), (-8, 7), (-128, 127)])
def test_soft_clamp_is_its_formula(bounds: tuple[int, int]) -> None:
    x = torch.linspace(bounds[0] - 3, bounds[1] + 3, 997, dtype=torch.float64)
    value, slope = soft_clamp(x, *bounds)
    far = math.exp(-SHARPNESS * (bounds[1] - bounds[0]) / 2) * (bounds[1] - bounds[0])
    np.testing.assert_allclose(value, [clamp_formula(t, *bounds) for t in x.tolist()], rtol=1e-12, atol=1e-12 + far)
    np.testing.assert_allclose(slope, [slope_of(clamp_formula, t, *bounds) for t in x.tolist()], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bounds", [(-2, 1), (-8, 7), (-128, 127)])
def test_soft_clamp_has_slope_one_half_and_its_own_value_at_both_bounds(bounds: tuple[int, int]) -> None:
    ends = torch.tensor(bounds, dtype=torch.float64)
    value, slope = soft_clamp(ends, *bounds)
    # The far gate leaves exp(-10 * 3) = 1e-13 at two bits.
    torch.testing.assert_close(value, ends, rtol=0, atol=1e-11)
    torch.testing.assert_close(slope, torch.full((2,), 0.5, dtype=torch.float64), rtol=0, atol=1e-11)


def test_soft_clamp_leaves_the_levels_where_they_are() -> None:
    x = torch.linspace(-12, 12, 24001, dtype=torch.float64)
    assert torch.equal(torch.unique(soft_clamp(x, -8, 7)[0].round()), torch.arange(-8.0, 8, dtype=torch.float64))
    assert float(soft_clamp(x, -8, 7)[0].min()) == pytest.approx(-8 - 0.2785 / SHARPNESS, abs=1e-4)


def test_sigmoid_rounding_is_the_derivative_of_its_function_and_averages_to_one() -> None:
    x = torch.linspace(-2.995, 2.995, 600, dtype=torch.float64)
    found = times_rounding_slope(torch.ones_like(x), x - x.round())
    np.testing.assert_allclose(found, [slope_of(rounding_formula, t, TEMPERATURE) for t in x.tolist()], rtol=1e-6)
    assert float(found.mean()) == pytest.approx(1, abs=1e-4)
    assert float(found.max() - found.min()) > 0.7


def test_sigmoid_rounding_tends_to_straight_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuous, "TEMPERATURE", 1e-3)
    x = torch.linspace(-3, 3, 601, dtype=torch.float64)
    torch.testing.assert_close(
        times_rounding_slope(3 * torch.ones_like(x), x - x.round()), 3 * torch.ones_like(x), rtol=0, atol=3e-6
    )


def expected(name: str, w: float, s: float, n: int, p: int) -> tuple[float, float]:
    """(d x_hat / d w, d x_hat / d s) by numerical derivatives of the two functions."""
    t = w / s
    soft = "softclamp" in name
    value = clamp_formula(t, n, p) if soft else min(max(t, n), p)
    slope = slope_of(clamp_formula, t, n, p) if soft else float(n <= t <= p)
    if name.endswith("sigmoid"):
        slope *= slope_of(rounding_formula, value, TEMPERATURE)
    return slope, round(value) - t * slope


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("name", ["lsq-softclamp", "lsq-sigmoid", "lsq-softclamp-sigmoid"])
def test_gradients_are_the_slopes_of_the_continuous_functions(name: str, bits: float) -> None:
    quantizer = registry.create(name, bits)
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn((3, 70), generator=generator, dtype=torch.float64).requires_grad_()
    upstream = torch.randn((3, 70), generator=generator, dtype=torch.float64)
    scale = (quantizer.start(weight)[0] * 0.6).requires_grad_()
    (quantizer.fake_quantize(weight, [scale], 210) * upstream).sum().backward()
    n, p = -(2 ** (int(bits) - 1)), 2 ** (int(bits) - 1) - 1
    slopes = np.array(
        [[expected(name, w, scale[i].item(), n, p) for w in row] for i, row in enumerate(weight.tolist())]
    )
    assert weight.grad is not None
    assert scale.grad is not None
    np.testing.assert_allclose(weight.grad, slopes[..., 0] * upstream.numpy(), rtol=1e-4, atol=1e-6)
    sums = (slopes[..., 1] * upstream.numpy()).sum(axis=1) / math.sqrt(210 * p)
    np.testing.assert_allclose(scale.grad[:, 0], sums, rtol=1e-4, atol=1e-6)


def test_hard_clamp_and_sigmoid_rounding_compute_what_lsq_computes() -> None:
    weight: Tensor = torch.randn((3, 70), generator=torch.Generator().manual_seed(4))
    (scale,) = lsq(4).start(weight)
    assert torch.equal(
        registry.create("lsq-sigmoid", 4).fake_quantize(weight, [scale], 210),
        lsq(4).fake_quantize(weight, [scale], 210),
    )
