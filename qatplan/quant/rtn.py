"""Round to nearest on the live range: s = max|x| / p of the values at hand, nothing learned, nothing clipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from torch.autograd import Function

from qatplan.quant.lsq import first_step, signed_bounds
from qatplan.quant.quantizer import Affine, Quantizer, Ranges, constant


class _Rounded(Function):
    """Forward: the grid. Backward: straight through, since a range that follows its largest value clips nothing."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, highest: int) -> Tensor:
        step = first_step(rows, highest, "max")
        return _levels(rows, step, highest).mul_(step)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def _levels(rows: Tensor, step: Tensor, highest: int) -> Tensor:
    # The largest value is p steps; in a type of few digits its ratio may round to p + 1.
    return rows.div(step).round_().clamp_(-highest, highest)


@dataclass(frozen=True)
class Rtn(Quantizer):
    """s * round(x / s), s = max|x| / p, p = 2^(B-1) - 1.

    The grid is the signed one of `bits`, whose lowest level -2^(B-1) a symmetric live range never reaches. The step is
    a constant of the gradient, which passes straight through.
    """

    live: ClassVar[bool] = True

    def fake_quantize(self, rows: Tensor, ranges: Ranges, numel: int) -> Tensor:
        result: Tensor = _Rounded.apply(rows, signed_bounds(self.bits)[1])
        return result

    def codes(self, rows: Tensor, ranges: Ranges) -> Tensor:
        lowest, highest = signed_bounds(self.bits)
        return _levels(rows.detach(), first_step(rows, highest, "max"), highest).long() - lowest

    def affine(self, rows: Tensor, ranges: Ranges) -> Affine:
        lowest, highest = signed_bounds(self.bits)
        step = first_step(rows, highest, "max")
        return Affine(step=step, zero=constant(lowest, step))
