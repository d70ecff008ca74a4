"""Intervals of the best QAT fraction from a fraction law's errors on measured curves that it was fitted without."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from qatplan.laws.fit_parts import Pair, SplitEvidence
from qatplan.laws.inputs import Floats, Inputs
from qatplan.laws.odds import log_odds, share


def split_interval(
    evidence: SplitEvidence, x: Inputs, fraction: Floats, ranges: Mapping[str, Pair], *, level: float
) -> tuple[Floats, Floats]:
    """(low, high), each (points,), of the best fraction where the law says `fraction`.

    In log-odds it reaches as far to both sides as the ceil((m + 1) level)-th of the m errors in order of size, the
    largest where there are too few (split conformal: Lei et al. 2018, arXiv 1604.04173). It grows with the distance
    from `ranges` (of n and d_total), as rolling origins showed.
    """
    errors = np.sort(np.abs(np.asarray(evidence.residuals)))
    last = min(math.ceil((len(errors) + 1) * level), len(errors)) - 1
    reach = (float(errors[last]) if len(errors) else math.inf) * (1.0 + evidence.widening * doublings(x, ranges))
    odds = log_odds(fraction)
    return share(odds - reach), share(odds + reach)


def doublings(x: Inputs, ranges: Mapping[str, Pair]) -> Floats:
    """Doublings of tokens and of size by which points lie outside what was measured, added up."""
    total = np.zeros(len(x))
    for name, values in (("n", x.n), ("d_total", x.d_total)):
        low, high = ranges.get(name, (0.0, math.inf))
        with np.errstate(divide="ignore"):
            total += np.maximum(np.maximum(np.log2(values / high), np.log2(low / values)), 0.0)
    return total
