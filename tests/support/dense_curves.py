"""Training curves of few steps."""

from __future__ import annotations

import pytest

from qatplan.training import branch, stack


def make_curve_dense(patch: pytest.MonkeyPatch) -> None:
    """Have a point of the curve, and a state to resume from, every five steps, so that few steps hold several."""
    patch.setattr(branch, "CURVE_STEPS", 5)
    patch.setattr(stack, "CURVE_STEPS", 5)
