"""Rounding after training: each row to nearest, on the quantizer's own grid, with the range of least squared error.

This is the f = 0 end of every fraction curve ("RTN with MSE-optimal steps"), and where the methods that learn how to
round start. A symmetric grid has one number to find per row, its step; an asymmetric one also its zero point.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from qatplan.quant.hadamard import rotate
from qatplan.quant.quantizer import SCALE_FLOOR, Affine, Quantizer, dequantize, hadamard_block

SEARCH_POINTS = 256
REFINEMENTS = 20
SHARES = 20
"""Shares of the outermost value that are tried for each end of an asymmetric range, all pairs of them."""
HALVINGS = 5
"""Times the pattern around the best pair is halved: the ends are then known to 1/608 of the outermost value."""
FINE_POINTS = 48
"""Steps within a sixth of the best that are tried with its zero point and both neighbours; errors of short rows are
jagged in the step."""


def nearest(rows: Tensor, grid: Affine, levels: int) -> Tensor:
    """The code of each number's nearest level; shape as `rows`, integers held in its type."""
    return (rows / grid.step - grid.zero).round().clamp(0, levels - 1)


def round_to_nearest(rows: Tensor, quantizer: Quantizer) -> tuple[Tensor, Affine]:
    """Codes of the rows and the grid of each, with the range that minimises the squared error of rounding.

    A quantizer that works in Hadamard space is searched and rounded there, where squared errors are the same.
    """
    block = hadamard_block(quantizer, rows.shape[1])
    rows = rotate(rows.detach(), block)
    grid = symmetric_grid(rows, quantizer) if quantizer.symmetric else asymmetric_grid(rows, quantizer.levels)
    return nearest(rows, grid, quantizer.levels), replace(grid, block=block)


def symmetric_grid(rows: Tensor, quantizer: Quantizer) -> Affine:
    """The best step.

    The error is piecewise quadratic in the step, so the search is global first (256 steps up to the largest useful
    one) and then alternates exactly: codes given the step, best step given the codes.
    """
    levels = quantizer.levels
    zero = quantizer.affine(rows, quantizer.start(rows)).zero
    largest = rows.abs().amax(dim=1, keepdim=True).clamp(min=SCALE_FLOOR) / (levels - 1 + zero)
    search = _Search(rows, Affine(step=largest, zero=zero), levels)
    for share in torch.linspace(0.05, 1.05, SEARCH_POINTS, dtype=rows.dtype):
        search.attempt(largest * share, zero)
    return search.refined()


def asymmetric_grid(rows: Tensor, levels: int) -> Affine:
    """The best pair of step and zero point, the zero point a whole number of steps from -(levels - 1) to 0.

    Such a zero point is stored in as many bits as a code, and keeps 0 on the grid. The search is global over pairs of
    range ends, then local, and last alternates the step with the codes as above.
    """
    low = rows.amin(dim=1, keepdim=True).clamp(max=0)
    high = rows.amax(dim=1, keepdim=True).clamp(min=0)
    lower, upper = torch.ones_like(low), torch.ones_like(high)
    search = _Search(rows, _spanned(low, high, levels), levels)

    def attempt_ends(low_share: Tensor, high_share: Tensor) -> None:
        nonlocal lower, upper
        trial = _spanned(low * low_share, high * high_share, levels)
        better = search.attempt(trial.step, trial.zero)
        lower, upper = torch.where(better, low_share, lower), torch.where(better, high_share, upper)

    shares = torch.linspace(0.0, 1.05, SHARES, dtype=rows.dtype, device=rows.device)
    for first, second in product(shares, shares):
        attempt_ends(first.expand_as(low), second.expand_as(high))
    distance = float(shares[1])
    for _ in range(HALVINGS):
        distance /= 2
        for down, up in product((-distance, 0.0, distance), repeat=2):
            attempt_ends((lower + down).clamp(min=0), (upper + up).clamp(min=0))
    middle = search.grid
    for zero in (middle.zero - 1, middle.zero, middle.zero + 1):
        for factor in torch.linspace(5 / 6, 7 / 6, FINE_POINTS, dtype=rows.dtype, device=rows.device):
            search.attempt(middle.step * factor, zero.clamp(1 - levels, 0))
    return search.refined()


def _spanned(low: Tensor, high: Tensor, levels: int) -> Affine:
    """The grid from about `low` to `high`: the nearest whose zero point is a whole number of steps."""
    step = ((high - low) / (levels - 1)).clamp(min=SCALE_FLOOR)
    return Affine(step=step, zero=(low / step).round().clamp(1 - levels, 0))


class _Search:
    """The best grid of each row so far, and its squared error."""

    def __init__(self, rows: Tensor, grid: Affine, levels: int) -> None:
        self.rows, self.grid, self.levels = rows, grid, levels
        self.error = self._error_of(grid)

    def _error_of(self, grid: Affine) -> Tensor:
        return (self.rows - dequantize(nearest(self.rows, grid, self.levels), grid)).square().sum(dim=1, keepdim=True)

    def attempt(self, step: Tensor, zero: Tensor) -> Tensor:
        """Keep this grid for the rows where it is better; which those are."""
        trial, best = Affine(step=step.clamp(min=SCALE_FLOOR), zero=zero), self.grid
        error = self._error_of(trial)
        better = error < self.error
        self.error = torch.where(better, error, self.error)
        zero = zero if zero is best.zero else torch.where(better, zero, best.zero)
        self.grid = Affine(step=torch.where(better, trial.step, best.step), zero=zero)
        return better

    def refined(self) -> Affine:
        """The grid after alternating: codes given the step, best step given the codes."""
        for _ in range(REFINEMENTS):
            best = self.grid
            unit = dequantize(nearest(self.rows, best, self.levels), best) / best.step
            power = (unit * unit).sum(dim=1, keepdim=True)
            step = (unit * self.rows).sum(dim=1, keepdim=True) / power.clamp(min=1e-30)
            self.attempt(torch.where(power > 0, step, best.step), best.zero)
        return self.grid
