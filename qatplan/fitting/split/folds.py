"""Which runs a law may see before it is asked about which curves: by cell, and by rolling origin in tokens or size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qatplan import runs
from qatplan.errors import DataError
from qatplan.fitting.curves import Curve
from qatplan.laws.inputs import Floats

Axis = Literal["tokens", "size"]

_SAME = 1.1
"""Budgets, or sizes, within this factor count as one."""
_SAME_CELL = 1.04
"""A cell's runs lie within this factor of its tokens; fractions are rounded to whole steps."""
_LEAST_LEVELS = 2
_LEAST_CURVES = 10
_MOST_ORIGINS = 8


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the runs of a table lie, one entry a run; NaN where a table does not say."""

    n: Floats
    d_total: Floats
    bits: Floats
    """NaN for a run in full precision."""

    @staticmethod
    def of(table: Any, n: str = "total") -> Places:
        """Of the runs of an Arrow table, in its order."""
        size = "n_total" if n == "total" else "n_nonembedding"
        known = runs.columns(table, [size, "d_total", "bits"])
        return Places(n=known[size], d_total=known["d_total"], bits=known["bits"])


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One fit, and the curves that it is scored on."""

    fitted: NDArray[np.bool_]
    """(runs of the table,) what the fit may see."""
    scored: tuple[int, ...]
    """Numbers of the curves."""
    distance: tuple[float, ...]
    """Per scored curve, its tokens (or size) over the largest fitted; 1 where nothing is extrapolated."""


def cells(curves: Sequence[Curve]) -> list[int]:
    """The number of each curve's cell: N, budget and bits, with all seeds, group sizes and quantizers."""
    order = sorted(range(len(curves)), key=lambda i: (curves[i].n, curves[i].bits, curves[i].d_total))
    numbers, cell, first = [0] * len(curves), -1, None
    for i in order:
        c = curves[i]
        if first is None or (c.n, c.bits) != (first.n, first.bits) or c.d_total > first.d_total * _SAME_CELL:
            cell, first = cell + 1, c
        numbers[i] = cell
    return numbers


def by_cell(places: Places, curves: Sequence[Curve], *, folds: int, seed: int) -> list[Fold]:
    """Cells dealt to `folds` folds at random, each scored by a fit that saw no run of its cells.

    With fewer cells than folds, one cell a fold. Raises DataError where there is one cell alone.
    """
    cell = np.array(cells(curves))
    count = int(cell.max()) + 1
    if count < 2:
        raise DataError("all curves are of one size, budget and bit width; holding out by cell needs two such cells")
    fold_of = np.empty(count, dtype=np.intp)
    fold_of[np.random.default_rng([seed, 4]).permutation(count)] = np.arange(count) % folds
    result = []
    for k in range(min(folds, count)):
        scored = np.flatnonzero(fold_of[cell] == k).tolist()
        seen = np.ones(len(places.n), dtype=np.bool_)
        for c in (curves[i] for i in scored):
            near = np.abs(np.log(places.d_total / c.d_total)) <= np.log(_SAME_CELL)
            seen &= ~((places.n == c.n) & (places.bits == c.bits) & near)
        result.append(Fold(fitted=seen, scored=tuple(scored), distance=(1.0,) * len(scored)))
    return result


def rolling(places: Places, curves: Sequence[Curve], axis: Axis) -> list[Fold]:
    """Fits on all runs up to a budget (or size), scored on every curve beyond it, the origin rolling upwards.

    An origin needs 10 curves of 2 budgets (sizes) below it; of more than 8 origins 8 are taken, evenly. Raises
    DataError where there is none.
    """
    at, of_runs = (
        (np.array([c.d_total for c in curves]), places.d_total)
        if axis == "tokens"
        else (np.array([c.n for c in curves]), places.n)
    )
    levels = _levels(at)
    origins = []
    for k, (below, above) in enumerate(pairwise(levels), start=1):
        if k < _LEAST_LEVELS or int(np.sum(at <= below[1])) < _LEAST_CURVES:
            continue
        scored = np.flatnonzero(at > below[1])
        origins.append(
            Fold(
                fitted=of_runs <= np.sqrt(below[1] * above[0]),
                scored=tuple(scored.tolist()),
                distance=tuple((at[scored] / below[1]).tolist()),
            )
        )
    if not origins:
        what = "budgets" if axis == "tokens" else "sizes"
        raise DataError(
            f"the {len(curves)} curves are of {len(levels)} {what if len(levels) > 1 else what[:-1]}; a rolling origin "
            f"needs {_LEAST_CURVES} curves of {_LEAST_LEVELS} {what} and one of a larger"
        )
    if len(origins) <= _MOST_ORIGINS:
        return origins
    return [origins[i] for i in np.linspace(0, len(origins) - 1, _MOST_ORIGINS).round().astype(int)]


def everything(places: Places, curves: Sequence[Curve]) -> list[Fold]:
    """One fit on all runs, scored on the curves that it saw: what a law can describe, not what it knows."""
    seen = np.ones(len(places.n), dtype=np.bool_)
    return [Fold(fitted=seen, scored=tuple(range(len(curves))), distance=(1.0,) * len(curves))]


def _levels(values: Floats) -> list[tuple[float, float]]:
    """(smallest, largest) of each group of nearly equal values, ascending."""
    found: list[tuple[float, float]] = []
    for value in np.sort(values).tolist():
        if found and value <= found[-1][0] * _SAME:
            found[-1] = found[-1][0], value
        else:
            found.append((value, value))
    return found
