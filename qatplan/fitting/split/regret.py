"""Regret: what a fraction costs on a measured curve, above the curve's own minimum."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import PchipInterpolator

from qatplan.errors import DataError
from qatplan.fitting.curves import Curve, Minimum, NoMinimum, curves, minima
from qatplan.fitting.rows import Rows, select
from qatplan.laws.chinchilla import Chinchilla
from qatplan.laws.inputs import Floats
from qatplan.laws.odds import log_odds


def measured_curves(table: Any, *, expression: str | None = None, n: str = "total") -> tuple[Rows, list[Minimum]]:
    """(usable rows, curves with 5 or more fractions between 0 and 1 and where each is lowest) of a runs table.

    Curves are those of the classic schedule unless `expression` chooses rows; at each fraction the best tuning counts.
    A minimum is that of a local cubic, NaN where loss is lowest at an end. Raises DataError where there is no curve.
    """
    rows = select(table, "comparison", shape=Chinchilla, expression=expression, n=n)
    every = minima(curves(rows), draws=0, seed=0)
    found = [m for m in every if m.none is not NoMinimum.FEW_FRACTIONS]
    if not found:
        most = max((len(m.curve.fraction) for m in every), default=0)
        raise DataError(
            f"no curve of loss against the QAT fraction has 5 fractions between 0 and 1 (of {len(every)} curves the "
            f"longest has {most}), so there is nothing to score a split on",
            evidence=every,
        )
    return rows, found


def regret(curve: Curve, fraction: ArrayLike) -> Floats:
    """Nats per token that fractions cost on a curve above its lowest measured loss; NaN where a fraction is NaN."""
    return excess(curve.fraction, curve.loss, fraction)


def excess(fractions: Floats, losses: Floats, at: ArrayLike) -> Floats:
    """Loss at fractions above the lowest of the measured `losses`, which lie at ascending `fractions` between 0 and 1.

    Between measured fractions the loss is interpolated in log-odds by a cubic that keeps its shape (PCHIP: Fritsch &
    Butland 1984, doi 10.1137/0905021), which has no minimum below those measured; beyond them it stays that of the end.
    Losses at fractions 0 and 1 take no part: their log-odds are infinite.
    """
    inside = np.clip(np.asarray(at, dtype=np.float64), fractions[0], fractions[-1])
    above: Floats = PchipInterpolator(log_odds(fractions), losses)(log_odds(inside)) - losses.min()
    return np.maximum(above, 0.0)  # at a measured fraction rounding may leave -1e-16
