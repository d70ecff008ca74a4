"""What every registered quantizer must hold: codes, levels, finite numbers, and the invariants of a grid."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from qatplan.quant import registry
from qatplan.quant.quantizer import SCALE_FLOOR, Quantizer, dequantize

NAMES = [entry.name for entry in registry.ENTRIES]
PAIRS = [(entry.name, bits) for entry in registry.ENTRIES for bits in entry.bits if bits in (1, 1.58, 2, 3, 4, 6, 8)]

FOLLOWS_THE_UNIT = {"scale", "min", "max"}
"""Range parameters in the unit of the values; the others are in steps, or multiples of live values."""


def rows(seed: int = 0, shape: tuple[int, int] = (6, 40)) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    # Off centre, so that an asymmetric range differs from a symmetric one.
    return torch.randn(shape, generator=generator, dtype=torch.float64) + 0.3


def narrowed(quantizer: Quantizer, weight: Tensor) -> list[Tensor]:
    """Ranges in which some of the values are clipped."""
    return [value * 0.6 for value in quantizer.start(weight)]


def scaled(quantizer: Quantizer, ranges: Sequence[Tensor], factor: float) -> list[Tensor]:
    """The ranges of values `factor` times as large."""
    return [
        value * factor if name in FOLLOWS_THE_UNIT else value
        for name, value in zip(quantizer.parameters, ranges, strict=True)
    ]


@pytest.mark.parametrize(("name", "bits"), PAIRS)
def test_codes_and_dequantize_give_the_fake_quantized_values(name: str, bits: float) -> None:
    quantizer = registry.create(name, bits)
    weight = rows()
    ranges = narrowed(quantizer, weight)
    codes = quantizer.codes(weight, ranges)
    assert codes.dtype == torch.int64
    assert codes.min() >= 0
    assert codes.max() < quantizer.levels
    found = dequantize(codes, quantizer.affine(weight, ranges))
    torch.testing.assert_close(found, quantizer.fake_quantize(weight, ranges, 240), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "bits"), PAIRS)
def test_the_forward_pass_reaches_all_levels_and_no_other(name: str, bits: float) -> None:
    quantizer = registry.create(name, bits)
    # With tails, so that a range of a few root mean squares ends within them.
    wide = torch.linspace(-1, 0.9999, 40001, dtype=torch.float64)[None] ** 9
    # Where LSQ starts, its outer levels lie beyond the largest values.
    ranges = [value * (0.05 if "lsq" in name else 0.5) for value in quantizer.start(wide)]
    levels = dequantize(torch.arange(quantizer.levels)[None], quantizer.affine(wide, ranges))[0]
    # A range that follows the largest magnitude never reaches the lowest of the 2^B levels, which has no mirror image.
    reached = levels[1:] if name == "rtn" else levels
    result = quantizer.fake_quantize(wide, ranges, wide.numel())
    torch.testing.assert_close(torch.unique(result), reached)


@pytest.mark.parametrize(("name", "bits"), PAIRS)
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", ["zero", "constant", "one", "huge", "tiny"])
def test_awkward_rows_are_finite(name: str, bits: float, kind: torch.dtype, case: str) -> None:
    quantizer = registry.create(name, bits)
    cases = {
        "zero": torch.zeros(2, 8),
        "constant": torch.full((2, 8), -3.0),
        "one": torch.tensor([[0.3], [-0.2]]),
        "huge": rows(5, (2, 8)).float() * 1e30,
        "tiny": rows(6, (2, 8)).float() * 1e-30,
    }
    weight = cases[case].to(kind).requires_grad_()
    ranges = [value.requires_grad_() for value in quantizer.start(weight)]
    result = quantizer.fake_quantize(weight, ranges, weight.numel())
    result.sum().backward()
    assert result.dtype == kind
    for tensor in (result, weight.grad, *(value.grad for value in ranges)):
        assert tensor is not None
        assert tensor.isfinite().all()
    codes = quantizer.codes(weight, ranges)
    assert 0 <= codes.min() <= codes.max() < quantizer.levels
    if case == "zero" and (torch.arange(quantizer.levels) + quantizer.affine(weight, ranges).zero == 0).any():
        assert (result == 0).all()


@pytest.mark.parametrize("name", [entry.name for entry in registry.ENTRIES if entry.learnable])
def test_a_parameter_shared_by_rows_gathers_the_gradient_of_all(name: str) -> None:
    quantizer = registry.create(name, 4)
    weight = rows(11)
    means = [value.mean().view(1, 1) * 0.6 for value in quantizer.start(weight)]
    shared = [mean.clone().requires_grad_() for mean in means]
    each = [mean.expand(6, 1).clone().requires_grad_() for mean in means]
    for ranges in (shared, each):
        (quantizer.fake_quantize(weight, ranges, 240) * rows(12)).sum().backward()
    for one, many in zip(shared, each, strict=True):
        assert one.grad is not None
        assert many.grad is not None
        assert one.grad != 0
        torch.testing.assert_close(one.grad, many.grad.sum(dim=0, keepdim=True))


def test_the_list_of_quantizers_tells_the_truth() -> None:
    for entry in registry.ENTRIES:
        for bits in entry.bits:
            quantizer = registry.create(entry.name, bits)
            assert quantizer.bits == bits
            promised = (entry.symmetric, entry.live, entry.rotates)
            assert (quantizer.symmetric, quantizer.live, quantizer.rotates) == promised
            assert bool(quantizer.parameters) == entry.learnable
            assert {word.strip() for word in entry.evidence.split(",")} <= {"paper", "code", "derived", "open"}
            zero = quantizer.affine(rows(), quantizer.start(rows())).zero
            assert (len(torch.unique(zero)) == 1) == entry.symmetric


values = st.lists(st.floats(-1e3, 1e3, allow_subnormal=False), min_size=1, max_size=30)


@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("name", NAMES)
@given(values=values, bits=st.sampled_from([1, 1.58, 2, 3, 4, 8]), factor=st.sampled_from([0.25, 0.5, 2.0, 8.0]))
def test_invariants(name: str, values: list[float], bits: float, factor: float) -> None:
    assume(bits in registry.entry(name).bits)
    quantizer = registry.create(name, bits)
    row = torch.tensor([sorted(values)], dtype=torch.float64)
    ranges = quantizer.start(row)
    grid = quantizer.affine(row, ranges)
    once = quantizer.fake_quantize(row, ranges, row.numel())
    assert (once.diff() >= 0).all(), "monotone"

    levels = dequantize(torch.arange(quantizer.levels)[None], grid)
    # SoftClamp is not the identity inside the grid: it moves the outermost thresholds by 0.0035 steps.
    half = (grid.step / 2 * (1.007 if "softclamp" in name else 1 + 1e-6)).item()
    inside = (row >= levels.min() - half) & (row <= levels.max() + half)
    assert ((row - once).abs()[inside] <= half * (1 + 1e-9)).all(), "within half a step"

    # Powers of two scale exactly, so equivariance is exact too; at the floor the scale does not follow the values.
    if float(grid.step) * min(1, factor) > SCALE_FLOOR * 1.01:
        again = quantizer.fake_quantize(row * factor, scaled(quantizer, ranges, factor), row.numel())
        assert torch.equal(again, once * factor), "equivariant"

    if name in ("beta-gamma-sigmoid", "quest"):
        # Rightly not idempotent: the one's range is 0.98 of what it sees, so what has been quantized is shrunk again;
        # the other's follows the mean square, which quantizing changes.
        return
    # An asymmetric range that follows its values can lose its top level where its ends lie half-way between two levels
    # (round(min / s) and round(max / s) then differ by k - 1), and sees a narrower range the second time.
    assume(not (quantizer.live and ((row.min() / grid.step).frac().abs() - 0.5).abs() < 1e-6))
    twice = quantizer.fake_quantize(once, ranges, row.numel())
    torch.testing.assert_close(twice, once, rtol=1e-12, atol=1e-12)
