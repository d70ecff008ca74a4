"""The choice of runs: greedy by gain and by gain per FLOP, then exchanged one at a time while that helps."""

from __future__ import annotations

import numpy as np

from qatplan.planning.next_runs.candidates import CandidateRuns
from qatplan.planning.next_runs.knowledge import Knowledge

_SWEEPS = 6


def select(known: Knowledge, possible: CandidateRuns, *, budget: float, runs: int) -> list[int]:
    """Positions of the chosen runs: the better of two greedy choices, then exchanged while that helps."""
    starts = [_greedy(known, possible, [], budget, runs, per_flop=per_flop) for per_flop in (False, True)]
    return _exchange(known, possible, min(starts, key=known.left), budget, runs)


def _greedy(
    known: Knowledge, possible: CandidateRuns, chosen: list[int], budget: float, runs: int, *, per_flop: bool
) -> list[int]:
    chosen = list(chosen)
    while len(chosen) < runs:
        extra = possible.extra_flops(chosen)
        allowed = extra <= budget - possible.flops(chosen)
        allowed[chosen] = False
        if not np.any(allowed):
            break
        gains = known.gains(chosen)
        price = np.where(allowed, extra, np.inf) if per_flop else np.ones_like(extra)
        chosen.append(int(np.argmax(np.where(allowed, gains / price, -np.inf))))
    return chosen


def _exchange(known: Knowledge, possible: CandidateRuns, chosen: list[int], budget: float, runs: int) -> list[int]:
    """Take out each run in turn and fill its place, and any room that the exchange makes, with what gains most."""
    left = known.left(chosen)
    for _ in range(_SWEEPS):
        before = left
        for run in list(chosen):
            if run not in chosen:
                continue
            rest = [other for other in chosen if other != run]
            for per_flop in (False, True):
                trial = _greedy(known, possible, rest, budget, runs, per_flop=per_flop)
                value = known.left(trial)
                if value < left * (1.0 - 1e-9):
                    chosen, left = trial, value
        if left > before * (1.0 - 1e-3):
            break
    return chosen
