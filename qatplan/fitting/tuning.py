"""Tuning: of the runs of one point that differ in settings the best counts, and what was tried says how good it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qatplan.laws.flags import Flag

TUNED = (
    "learning_rate", "qat_learning_rate", "rewarmup_tokens", "cooldown", "qat_decay", "optimizer_state", "batch_tokens",
    "sequence", "width", "layers", "optimizer", "update", "transition_rate", "scale_learning_rate",
)  # fmt: skip
"""What a run sets that no law has as an axis: of a point's runs the best counts."""
_AXES = frozenset(
    {"learning_rate", "qat_learning_rate", "cooldown", "batch_tokens", "transition_rate", "scale_learning_rate"}
)
"""Settings of which more and less can be tried without changing the model."""
_A_RANGE = 3
"""Different values from which a range was tried: of two, one is always at an end."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What was tried at one point."""

    n: float
    """Size of the model, parameters."""
    settings: int
    """How many different settings."""
    ranges: tuple[str, ...]
    """Settings of which a range was tried."""
    ends: tuple[str, ...]
    """Those of which the best run has the least or the largest value."""


def tried(n: float, best: Sequence[Any], settings: Iterable[Sequence[Any]]) -> Tried:
    """What the `settings` of a point's runs, each in the order of TUNED, say about its best."""
    every = set(map(tuple, settings))
    ranges, ends = [], []
    for index, name in enumerate(TUNED):
        values = {setting[index] for setting in every} - {None}
        if name in _AXES and len(values) >= _A_RANGE and best[index] is not None:
            ranges.append(name)
            if best[index] in (min(values), max(values)):
                ends.append(name)
    return Tried(n=n, settings=len(every), ranges=tuple(ranges), ends=tuple(ends))


def tuning_flags(points: Sequence[Tried], column: str) -> list[str]:
    """Whether best runs lie at an end of what was tried, and whether one size was tuned less than the others.

    `column` is that of the sizes, for the expression that leaves some out.
    """
    flags = []
    for name in TUNED:
        ends = sum(name in point.ends for point in points)
        if ends:
            count = sum(name in point.ranges for point in points)
            flags.append(Flag.TUNING_END(ends=ends, points=count, name=name))
    sizes = sorted({point.n for point in points})
    typical = {n: float(np.median([point.settings for point in points if point.n == n])) for n in sizes}
    most = max(typical.values(), default=0.0)
    less = [n for n in sizes if 2 * typical[n] <= most]
    if most >= _A_RANGE and less:
        few = max(typical[n] for n in less)
        shown = ", ".join(f"{n:.0f}" for n in less)
        flags.append(Flag.TUNED_LESS(sizes=shown, few=few, most=most, column=column))
    return flags
