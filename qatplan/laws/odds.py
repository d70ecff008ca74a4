"""Shares as log-odds and back, for arrays and numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from qatplan.laws.inputs import Floats


def log_odds(share: ArrayLike) -> Floats:
    """ln(f / (1 - f)); infinite at 0 and 1."""
    f = np.asarray(share, dtype=np.float64)
    with np.errstate(divide="ignore"):
        odds: Floats = np.log(f) - np.log1p(-f)
    return odds


def share(odds: ArrayLike) -> Floats:
    """1 / (1 + exp(-odds)), without overflow."""
    with np.errstate(invalid="ignore"):  # a share that is not known stays unknown
        made: Floats = np.exp(-np.logaddexp(0.0, -np.asarray(odds, dtype=np.float64)))
    return made
