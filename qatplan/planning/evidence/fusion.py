"""Whether to fuse the cooldown with QAT: the paper's word, or what the user's own runs say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Final

import numpy as np

from qatplan.laws.inputs import Floats
from qatplan.planning.candidate import Candidate
from qatplan.planning.numeric import first_below
from qatplan.planning.objective import Objective

COLUMNS: Final = ("n_total", "d_total", "d_qat", "bits", "schedule", "seed", "corpus_digest", "quantizer", "loss")
"""Columns of a runs table that are looked at."""

_ALIKE: Final = ("n_total", "d_total", "bits", "seed", "corpus_digest", "quantizer")
_PAPER: Final = "arXiv 2509.22935, at second hand"
REPORTED: Final = (0.0006, 0.017)
"""Smallest and largest gain in perplexity that the paper reports at 4 and 6 bits."""
_FAR: Final = 12.0


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Fused against classic runs of one bit width."""

    bits: float
    gain: float
    """Mean of log(classic loss / fused loss), each at its own best fraction; above 0 where fusing helps."""
    error: float | None
    """Standard error of the mean; None from a single pair."""
    pairs: int


def measured_fusion(rows: Iterable[Mapping[str, Any]], bits: float) -> Measured | None:
    """The gain of fusing at one bit width; None without runs of both schedules that are alike in all else.

    Within each (parameters, tokens, seed, corpus, quantizer) the best classic run is held against the best fused one,
    so that each schedule has its own best fraction. A schedule tried at more fractions has the better chance: compare
    curves over the same fractions.
    """
    best: dict[tuple[Any, ...], dict[str, float]] = {}
    for row in rows:
        loss, schedule = row.get("loss"), str(row.get("schedule") or "")
        kind = "fused" if schedule.startswith("fused") else schedule
        if loss is None or row.get("bits") != bits or not row.get("d_qat") or kind not in ("fused", "classic"):
            continue
        found = best.setdefault(tuple(row.get(name) for name in _ALIKE), {})
        found[kind] = min(float(loss), found.get(kind, math.inf))
    gains = [math.log(pair["classic"] / pair["fused"]) for pair in best.values() if len(pair) == 2]
    if not gains:
        return None
    error = stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else None
    return Measured(bits=bits, gain=fmean(gains), error=error, pairs=len(gains))


def advice(
    objective: Objective, plan: Candidate, measured: Measured | None, *, given_model: bool = False
) -> dict[str, Any]:
    """Whether to fuse at this plan, why, and what it saves in tokens.

    Measured runs outweigh the paper; fusing is advised where it gains more than twice its standard error. Where only
    the paper speaks, `saved_tokens` is null and `saved_tokens_range` holds what the law makes of the reported gains;
    its upper end is null where no number of tokens reaches them. A given model has had its cooldown.
    """
    if given_model:
        return {
            "advised": False,
            "why": "that takes a checkpoint from before the cooldown, and a given model counts as finished",
            "source": "the schedules of " + _PAPER,
            "gain": None,
            "pairs": 0,
            "saved_tokens": None,
            "saved_tokens_range": None,
        }
    if measured is None:
        advised = plan.bits >= 4
        why = (
            "gains of 0.06 to 1.7 % in perplexity, often worth over 10 % of the tokens, were reported at 4 and 6 bits"
            if advised
            else "no gain, and at times harm, was reported at 1 and 2 bits"
            + ("; 3 bits were not reported" if 2 < plan.bits < 4 else "")
        )
        return {
            "advised": advised,
            "why": why,
            "source": f"{_PAPER}; no runs of both schedules at {plan.bits:g} bits were given",
            "gain": None,
            "pairs": 0,
            "saved_tokens": None,
            # A gain in perplexity p takes -ln(1 - p) off the loss.
            "saved_tokens_range": [_saved(objective, plan, plan.loss + math.log1p(-gain)) for gain in REPORTED]
            if advised
            else None,
        }
    sure = measured.error is not None and abs(measured.gain) > 2.0 * measured.error
    advised = measured.gain > 0 and sure
    verdict = "lowers" if measured.gain > 0 else "raises"
    spread = "" if measured.error is None else f" (standard error {100 * measured.error:.2g} %)"
    return {
        "advised": advised,
        "why": f"fusing {verdict} the loss by {100 * abs(measured.gain):.2g} %{spread}"
        + ("" if sure else ", which these pairs cannot tell from nothing"),
        "source": f"{measured.pairs} pairs of the runs given, each schedule at its own best fraction",
        "gain": measured.gain,
        "pairs": measured.pairs,
        "saved_tokens": _saved(objective, plan, plan.loss * math.exp(-measured.gain)) if advised else None,
        "saved_tokens_range": None,
    }


def _saved(objective: Objective, plan: Candidate, loss: float) -> float | None:
    """Tokens beyond the plan's that the classic schedule would need for the fused loss; None where none suffice."""

    def best(log_tokens: Floats) -> Floats:
        return objective.best(plan.n, np.exp(log_tokens), plan.bits)[1]

    start = math.log(plan.tokens)
    found = first_below(best, loss, start, start + _FAR)
    return None if found is None else math.exp(found) - plan.tokens
