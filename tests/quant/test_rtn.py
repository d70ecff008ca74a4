"""Round to nearest on the live range."""

from __future__ import annotations

import torch

from qatplan.quant.rtn import Rtn


def test_values_and_straight_through_gradient() -> None:
    rows = torch.tensor([[0.7, -0.35, 0.149, 0.0], [-14.0, 3.0, 5.0, -0.9]], requires_grad=True)
    upstream = torch.arange(8.0).view(2, 4)
    result = Rtn(4).fake_quantize(rows, (), 8)
    (result * upstream).sum().backward()
    # p = 7: steps of 0.1 and of 2; -3.5 and 2.5 steps round to the even neighbour.
    torch.testing.assert_close(result, torch.tensor([[0.7, -0.4, 0.1, 0.0], [-14.0, 4.0, 4.0, 0.0]]))
    assert rows.grad is not None
    assert torch.equal(rows.grad, upstream), "nothing is clipped, so every gradient passes"
