"""Runs that one could make next, and what a set of them costs when runs branch off shared trunks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from qatplan.errors import UsageError
from qatplan.laws import FittedLaw, Inputs
from qatplan.laws.inputs import Floats
from qatplan.models.costs import FLOPS_PER_WEIGHT

FRACTIONS = (0.03, 0.07, 0.15, 0.3, 0.5, 0.7, 0.9)
"""Shares of QAT that candidates have."""
COOLDOWN = 0.2
"""Share of a full-precision phase that is its own cooldown, and so belongs to no trunk."""


@dataclass(frozen=True, kw_only=True)
class CandidateRuns:
    """Points that can be measured, and the trunks that exist already."""

    x: Inputs
    trunks: Mapping[float, float]
    """Tokens of kept trunks by parameters."""
    cooldown: float = COOLDOWN

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def _groups(self) -> tuple[Floats, NDArray[np.intp], NDArray[np.intp]]:
        """Distinct sizes; for each run the position of its size, and of its (size, full-precision tokens)."""
        sizes, size = np.unique(self.x.n, return_inverse=True)
        _, switch = np.unique(np.stack([self.x.n, self.x.d_fp], axis=1), axis=0, return_inverse=True)
        return sizes, size, switch.reshape(-1)

    def extra_flops(self, chosen: Iterable[int]) -> Floats:
        """(runs,): FLOPs that each run adds to those chosen.

        A trunk is paid up to the last switch point that lies on it, a cooldown once for all runs that share their
        size and full-precision tokens, and QAT tokens by every run.
        """
        sizes, size, switch = self._groups
        on_trunk, picked = (1.0 - self.cooldown) * self.x.d_fp, list(chosen)
        reached = np.array([self.trunks.get(float(n), 0.0) for n in sizes])
        cooled = np.zeros(len(self), dtype=np.bool_)
        np.maximum.at(reached, size[picked], on_trunk[picked])
        cooled[switch[picked]] = True
        trunk = np.maximum(on_trunk - reached[size], 0.0)
        cooldown = np.where(cooled[switch], 0.0, self.cooldown * self.x.d_fp)
        result: Floats = FLOPS_PER_WEIGHT * self.x.n * (trunk + cooldown + self.x.d_qat)
        return result

    def flops(self, chosen: Iterable[int]) -> float:
        """FLOPs of a set of runs together."""
        total, before = 0.0, list[int]()
        for run in chosen:
            total += float(self.extra_flops(before)[run])
            before.append(run)
        return total


def candidates(
    fit: FittedLaw,
    *,
    bits: Iterable[float],
    budget: float,
    reach: float = 4.0,
    target: tuple[float, float] = (0.0, 0.0),
    trunks: Mapping[float, float] | None = None,
) -> CandidateRuns:
    """Runs at sizes and tokens a factor of 2 apart, from the smallest fitted to `reach` times the largest, and on to
    the target's (parameters, tokens) where those are larger and the budget pays for them.

    At every (size, tokens) there is a full-precision run and, for every bit width, one run for each of `FRACTIONS`.
    Runs that cost more than the budget (FLOPs) are left out. Raises UsageError when none is left, or when
    the fit does not know its ranges.
    """
    if "n" not in fit.ranges or "d_total" not in fit.ranges:
        raise UsageError("the fit records no ranges of parameters and tokens, so there is no scale to design runs at.")
    kept = {} if trunks is None else dict(trunks)
    (least_n, most_n), (least_d, most_d) = fit.ranges["n"], fit.ranges["d_total"]
    # Nothing is proposed that the budget does not pay for even once.
    largest = min(target[0], budget / (FLOPS_PER_WEIGHT * least_d))
    longest = min(target[1], budget / (FLOPS_PER_WEIGHT * least_n))
    sizes = sorted({*_doublings(least_n, reach * most_n), *_doublings(reach * most_n, largest), *kept})
    tokens = sorted({*_doublings(least_d, reach * most_d), *_doublings(reach * most_d, longest)})
    splits = [(math.nan, 0.0), *((float(b), f) for b in bits for f in FRACTIONS)]
    grid = [(n, d, b, f) for n in sizes for d in tokens for b, f in splits]
    n, d_total, width, fraction = (np.array(column) for column in zip(*grid, strict=True))
    x = Inputs.of(n=n, d_total=d_total, bits=width, fraction=fraction)
    every = CandidateRuns(x=x, trunks=kept)
    usable = np.array([reason is None for reason in fit.law.outside(x)]) & (every.extra_flops(()) <= budget)
    if not np.any(usable):
        raise UsageError(
            f"budget {budget:.3g} FLOPs pays for no run: the cheapest candidate takes "
            f"{float(every.extra_flops(()).min()):.3g} FLOPs."
        )
    return CandidateRuns(x=x.take(usable), trunks=kept)


def _doublings(low: float, high: float) -> list[float]:
    if high < low:
        return []
    count = max(round(math.log2(high / low)), 1)
    return [float(v) for v in np.geomspace(low, high, count + 1)]
