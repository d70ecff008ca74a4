"""Rounding after training: each row to nearest, on the quantizer's own grid, with the scale of least squared error.

This is the f = 0 end of every fraction curve ("RTN with MSE-optimal steps").
"""

from __future__ import annotations

import torch
from torch import Tensor

from qatplan.quant.quantizer import SCALE_FLOOR, Quantizer

SEARCH_POINTS = 256
REFINEMENTS = 20


def nearest(rows: Tensor, scale: Tensor, grid: tuple[float, ...]) -> Tensor:
    """Each weight's nearest level, in weight units; shape as `rows`."""
    levels = torch.tensor(grid, dtype=rows.dtype, device=rows.device)
    middles = (levels[1:] + levels[:-1]) / 2
    return levels[torch.bucketize(rows / scale, middles)] * scale


def least_squares_scale(rows: Tensor, quantizer: Quantizer) -> Tensor:
    """The scale of each row, shape (rows, 1), that minimises the squared error of rounding to the grid.

    The error is piecewise quadratic in the scale, so the search is global first (256 scales up to the
    largest useful one) and then alternates exactly: codes given the scale, best scale given the codes.
    """
    rows = rows.detach()
    largest = rows.abs().amax(dim=1, keepdim=True).clamp(min=SCALE_FLOOR) / max(
        abs(level) for level in quantizer.grid if level > 0
    )
    best = largest.clone()
    error = _squared_error(rows, best, quantizer)
    for share in torch.linspace(0.05, 1.05, SEARCH_POINTS, dtype=rows.dtype):
        scale = (largest * share).clamp(min=SCALE_FLOOR)
        best, error = _better(rows, scale, quantizer, best, error)
    for _ in range(REFINEMENTS):
        unit = nearest(rows, best, quantizer.grid) / best
        power = (unit * unit).sum(dim=1, keepdim=True)
        scale = torch.where(power > 0, (unit * rows).sum(dim=1, keepdim=True) / power.clamp(min=1e-30), best)
        best, error = _better(rows, scale.clamp(min=SCALE_FLOOR), quantizer, best, error)
    return best


def _squared_error(rows: Tensor, scale: Tensor, quantizer: Quantizer) -> Tensor:
    return (rows - nearest(rows, scale, quantizer.grid)).square().sum(dim=1, keepdim=True)


def _better(rows: Tensor, scale: Tensor, quantizer: Quantizer, best: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    candidate = _squared_error(rows, scale, quantizer)
    improved = candidate < error
    return torch.where(improved, scale, best), torch.where(improved, candidate, error)
