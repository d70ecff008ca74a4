"""Residuals that share random effects, made independent: the symmetric root of their inverse covariance, by blocks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import block_diag, csr_array, eye_array
from scipy.sparse.csgraph import connected_components

from qatplan.laws.inputs import Floats

Groups = tuple[NDArray[np.intp], ...]
"""For each kind of effect the number of the group (rows,) that a row belongs to."""


@dataclass(frozen=True, kw_only=True)
class Whitening:
    """V = 1 + sum over kinds of ratio^2 * (1 where two rows are of one group), in units of a run's own variance.

    The symmetric root of its inverse, unlike Cholesky's, treats all rows of a group alike: the order of rows plays no
    part, and one bad run is spread thinly over its group instead of onto those that happen to follow it.
    """

    groups: Groups
    ratios: tuple[float, ...]
    """Standard deviation of each kind of effect over that of a run's own noise."""

    def take(self, rows: Any) -> Whitening:
        """The same for some of the rows."""
        return Whitening(groups=tuple(g[rows] for g in self.groups), ratios=self.ratios)

    def __call__(self, values: Floats) -> Floats:
        """V^-1/2 times each vector of values (K, rows) or (K, rows, p)."""
        return _times(self._roots[0], values)

    def coloured(self, values: Floats) -> Floats:
        """V^1/2 times each vector of values (K, rows): independent noise becomes noise with effects."""
        return _times(self._roots[1], values)

    @property
    def log_determinant(self) -> float:
        """ln det V."""
        return self._roots[2]

    @cached_property
    def _roots(self) -> tuple[csr_array, csr_array, float]:
        """(V^-1/2, V^1/2, ln det V)."""
        count = len(self.groups[0])
        covariance = csr_array(eye_array(count))
        for group, ratio in zip(self.groups, self.ratios, strict=True):
            member = csr_array((np.ones(count), (np.arange(count), group)))
            covariance = covariance + ratio**2 * (member @ member.T)
        block = connected_components(covariance, directed=False)[1]
        order = np.argsort(block, kind="stable")
        ordered = csr_array(covariance[order][:, order])
        inverse, root, total = [], [], 0.0
        ends = np.cumsum(np.bincount(block))
        for begin, end in zip([0, *ends[:-1]], ends, strict=True):
            size, vectors = np.linalg.eigh(ordered[begin:end, begin:end].toarray())
            inverse.append((vectors / np.sqrt(size)) @ vectors.T)
            root.append((vectors * np.sqrt(size)) @ vectors.T)
            total += float(np.sum(np.log(size)))
        back = np.argsort(order)
        made = [csr_array(csr_array(block_diag(parts, format="csr"))[back][:, back]) for parts in (inverse, root)]
        return made[0], made[1], total


def _times(matrix: csr_array, values: Floats) -> Floats:
    flat = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
    made = (matrix @ flat).reshape(values.shape[1], values.shape[0], *values.shape[2:])
    return np.ascontiguousarray(np.moveaxis(made, 0, 1))
