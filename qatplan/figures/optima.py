"""Measured optimal fractions for the figures: found in a table of runs, or recorded in a fit of the fraction law."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qatplan.errors import DataError
from qatplan.figures.fraction import MeasuredOptimum

if TYPE_CHECKING:
    import pyarrow as pa

    from qatplan.laws.fitted import FittedLaw

_DRAWS = 400
_SEED = 0
_LEAST = 3


def measured(
    table: pa.Table, *, n: str = "total", expression: str | None = None, level: float = 0.95
) -> list[MeasuredOptimum]:
    """The optimum of every curve of loss against the fraction in a runs table, with its interval at `level`.

    Curves are those that the fraction law is fitted on: the classic schedule unless `expression` chooses rows. A
    curve whose loss is lowest at its first or last fraction, or at 0 or 1, is returned there with its `end` set; one
    with fewer than three fractions, or with an inner minimum that its points are too few to locate, is left out.
    """
    from qatplan.fitting.curves import curves, optima
    from qatplan.fitting.rows import select
    from qatplan.laws.qat_fraction import QatFraction

    try:
        rows = select(table, "qat-fraction", shape=QatFraction, expression=expression, n=n)
    except DataError:
        return []
    result = []
    for found in optima(curves(rows), draws=_DRAWS, seed=_SEED):
        curve = found.curve
        if len(curve.fraction) < _LEAST:
            continue
        where, end = found.fraction, 0
        low, high = found.interval(level)
        if found.note is not None:
            end = _end(curve.fraction, curve.loss, curve.ends)
            where = float(curve.fraction[0 if end < 0 else -1])
            low = high = where
        if (found.note is not None and end == 0) or not np.isfinite(where):
            continue
        known = np.isfinite(low) and np.isfinite(high)
        result.append(
            MeasuredOptimum(
                n=curve.n,
                d_total=curve.d_total,
                bits=curve.bits,
                fraction=where,
                low=min(low, where) if known else where,
                high=max(high, where) if known else where,
                end=end,
            )
        )
    return result


def recorded(fitted: FittedLaw) -> list[MeasuredOptimum]:
    """The inner optima that a fit of the fraction law was made from; none for other fits."""
    result = []
    for curve in fitted.criticism.get("curves") or []:
        if curve["optimum"] is None:
            continue
        low, high = (curve["optimum"] if edge is None else float(edge) for edge in curve["interval"])
        where = float(curve["optimum"])
        result.append(
            MeasuredOptimum(
                n=float(curve["n"]),
                d_total=float(curve["d_total"]),
                bits=float(curve["bits"]),
                fraction=where,
                low=min(low, where),
                high=max(high, where),
            )
        )
    return result


def _end(fraction: np.ndarray, loss: np.ndarray, ends: dict[str, float]) -> int:
    """-1 or +1 where the lowest loss is at the low or high end of what was measured, ends included; 0 inside."""
    at = [*(float(e) for e in ends), *fraction.tolist()]
    where = at[int(np.argmin([*ends.values(), *loss.tolist()]))]
    return -1 if where <= fraction[0] else 1 if where >= fraction[-1] else 0
