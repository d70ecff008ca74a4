"""Rounding after training: each row to nearest, on the quantizer's own grid, with the step of least squared error.

This is the f = 0 end of every fraction curve ("RTN with MSE-optimal steps").
"""

from __future__ import annotations

import torch
from torch import Tensor

from qatplan.quant.quantizer import SCALE_FLOOR, Affine, Quantizer, dequantize

SEARCH_POINTS = 256
REFINEMENTS = 20


def nearest(rows: Tensor, grid: Affine, levels: int) -> Tensor:
    """The code of each number's nearest level; shape as `rows`, integers held in its type."""
    return (rows / grid.step - grid.zero).round().clamp(0, levels - 1)


def round_to_nearest(rows: Tensor, quantizer: Quantizer) -> tuple[Tensor, Affine]:
    """Codes of the rows and the grid of each, with the step that minimises the squared error of rounding.

    The error is piecewise quadratic in the step, so the search is global first (256 steps up to the largest useful
    one) and then alternates exactly: codes given the step, best step given the codes.
    """
    rows = rows.detach()
    levels = quantizer.levels
    zero = quantizer.affine(rows, quantizer.start(rows)).zero
    largest = rows.abs().amax(dim=1, keepdim=True).clamp(min=SCALE_FLOOR) / (levels - 1 + zero)
    best = largest.clone()
    error = _squared_error(rows, Affine(step=best, zero=zero), levels)
    for share in torch.linspace(0.05, 1.05, SEARCH_POINTS, dtype=rows.dtype):
        step = (largest * share).clamp(min=SCALE_FLOOR)
        best, error = _better(rows, Affine(step=step, zero=zero), levels, best, error)
    for _ in range(REFINEMENTS):
        grid = Affine(step=best, zero=zero)
        unit = dequantize(nearest(rows, grid, levels), grid) / best
        power = (unit * unit).sum(dim=1, keepdim=True)
        step = torch.where(power > 0, (unit * rows).sum(dim=1, keepdim=True) / power.clamp(min=1e-30), best)
        best, error = _better(rows, Affine(step=step.clamp(min=SCALE_FLOOR), zero=zero), levels, best, error)
    grid = Affine(step=best, zero=zero)
    return nearest(rows, grid, levels), grid


def _squared_error(rows: Tensor, grid: Affine, levels: int) -> Tensor:
    return (rows - dequantize(nearest(rows, grid, levels), grid)).square().sum(dim=1, keepdim=True)


def _better(rows: Tensor, grid: Affine, levels: int, best: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    candidate = _squared_error(rows, grid, levels)
    improved = candidate < error
    return torch.where(improved, grid.step, best), torch.where(improved, candidate, error)
