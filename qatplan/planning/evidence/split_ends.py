"""What it cost in the user's own runs to round after training, or to quantize from the first token on.

The loss law is singular at both ends of the split (arXiv 2509.22935), so the runs speak where they have these ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from qatplan.units import format_count

COLUMNS: Final = ("n_total", "d_total", "d_fp", "d_qat", "bits", "schedule", "seed", "corpus_digest", "loss")
"""Columns of a runs table that are looked at."""

_ALIKE: Final = ("n_total", "d_total", "seed", "corpus_digest")


@dataclass(frozen=True, kw_only=True)
class MeasuredEnd:
    """One end of the split against the best split, in the measured setting nearest to a plan."""

    log_ratio: float
    """Mean of log(loss at the end / lowest loss of the classic runs between both ends)."""
    n: float
    """Parameters of the setting."""
    d_total: float
    """Tokens of the setting."""
    bits: float
    pairs: int
    """Seeds and corpora behind the mean."""

    @property
    def words(self) -> str:
        """Where the number comes from."""
        return (
            f"measured at {format_count(self.n)} parameters, {format_count(self.d_total)} tokens and {self.bits:g} "
            f"bits ({self.pairs} {'pair' if self.pairs == 1 else 'pairs'} of runs, the nearest to this plan), and "
            "carried over in proportion"
        )


def measured_end(
    rows: Iterable[Mapping[str, Any]], *, fraction: float, bits: float, n: float, d_total: float
) -> MeasuredEnd | None:
    """The cost of `fraction` 0 or 1 at one bit width in the setting nearest to `n` parameters and `d_total` tokens.

    Runs are compared with the best classic run of the same parameters, tokens, seed and corpus; None without any such
    pair, and for other fractions. Nearest is by the larger of the two factors in parameters and tokens.
    """
    ends: dict[tuple[Any, ...], float] = {}
    between: dict[tuple[Any, ...], float] = {}
    for row in rows:
        loss, d_fp, d_qat = row.get("loss"), row.get("d_fp"), row.get("d_qat")
        if loss is None or d_fp is None or d_qat is None or row.get("bits") != bits:
            continue
        key = tuple(row.get(name) for name in _ALIKE)
        if not d_qat or not d_fp:
            if fraction == (0.0 if not d_qat else 1.0):
                ends[key] = min(float(loss), ends.get(key, math.inf))
        elif row.get("schedule") in ("classic", None):
            between[key] = min(float(loss), between.get(key, math.inf))
    pairs = {key: math.log(ends[key] / between[key]) for key in ends if key in between}
    if not pairs:
        return None

    def distance(key: tuple[Any, ...]) -> float:
        return max(abs(math.log(key[0] / n)), abs(math.log(key[1] / d_total)))

    nearest = min(pairs, key=distance)
    alike = [pairs[key] for key in pairs if key[:2] == nearest[:2]]
    return MeasuredEnd(log_ratio=fmean(alike), n=nearest[0], d_total=nearest[1], bits=bits, pairs=len(alike))
