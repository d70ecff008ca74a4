"""Whether small sizes or early points bend a fit: how well the largest runs are predicted without the smallest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qatplan.errors import DataError
from qatplan.fitting.diagnostics import Refit, score
from qatplan.fitting.rows import Rows
from qatplan.laws.fit_parts import Origin
from qatplan.laws.flags import Flag
from qatplan.laws.inputs import Floats

_MOST, _RANGES = 8, 6
"""Different values that are steps of their own; more are parted into that many ranges."""
_LEFT_OUT, _KEPT = 3, 4
"""Most steps that are left out, and fewest that stay, the largest among them."""
_CLEAR = 2.0
"""How many times smaller the error must become for a trend to be clear."""


def rolling_origin(rows: Rows, refit: Refit) -> tuple[Origin, ...]:
    """Errors on the largest size and on the largest budget, predicted from the smaller without the smallest.

    An axis of fewer than five steps has no origin to roll.
    """
    made = []
    for axis, values in (("n", rows.x.n), ("d_total", rows.x.d_total)):
        step = _steps(values)
        last = int(step.max())
        for left_out in range(min(_LEFT_OUT, last + 1 - _KEPT) + 1 if last >= _KEPT else 0):
            keep = step >= left_out
            try:
                found = score(rows.take(keep), (step == last)[keep], refit, axis)
            except DataError:
                break
            if found.mape is None:
                break
            least = float(values[keep].min())
            made.append(Origin(axis=axis, left_out=left_out, least=least, rows=found.rows, error=found.mape))
    return tuple(made)


def bend_flags(origins: Sequence[Origin], column: str) -> list[str]:
    """That the largest is predicted clearly better as soon as the smallest are left out.

    `column` is that of the sizes, for the expression that leaves some out.
    """
    flags = []
    for axis in ("n", "d_total"):
        errors = [origin for origin in origins if origin.axis == axis]
        low = [_CLEAR * origin.error < errors[0].error for origin in errors]
        # By chance one origin may do better, but not every one after it too.
        clear = next((origin for i, origin in enumerate(errors) if all(low[i:])), None)
        if clear is not None:
            flags.append(
                Flag.BENT(
                    what="sizes" if axis == "n" else "budgets", all=errors[0].error, error=clear.error,
                    left_out=clear.left_out, column=column if axis == "n" else axis, least=clear.least,
                )
            )  # fmt: skip
    return flags


def _steps(values: Floats) -> NDArray[np.intp]:
    """The step, from 0, that each value lies on: equal values up to a few percent, or ranges of as many rows."""
    logs = np.log(values)
    distinct, step = np.unique(np.round(logs, 1), return_inverse=True)
    if len(distinct) <= _MOST:
        return step.astype(np.intp)
    edges = np.quantile(logs, np.linspace(0, 1, _RANGES + 1)[1:-1])
    return np.searchsorted(edges, logs, side="left").astype(np.intp)
