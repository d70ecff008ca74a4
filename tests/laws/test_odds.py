"""Log-odds and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from qatplan.laws.odds import log_odds, share


@given(st.floats(1e-12, 1 - 1e-12))
def test_they_are_scipys_and_undo_each_other(f: float) -> None:
    assert log_odds(f) == pytest.approx(logit(f), rel=1e-12, abs=1e-12)
    assert share(log_odds(f)) == pytest.approx(f, rel=1e-9)


def test_ends_and_far_values() -> None:
    assert log_odds([0.0, 1.0]).tolist() == [-np.inf, np.inf]
    assert share([-1e4, -800.0, 0.0, 800.0]) == pytest.approx(expit([-1e4, -800.0, 0.0, 800.0]))
