"""Whether to fuse the cooldown with QAT: the paper's word, or what the user's own runs say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Final

from qatplan.planning.candidate import Candidate
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

    @property
    def sure(self) -> bool:
        """Whether the gain is more than twice its standard error."""
        return self.error is not None and abs(self.gain) > 2.0 * self.error


def measured_fusion(rows: Iterable[Mapping[str, Any]], bits: float) -> Measured | None:
    """The gain of fusing at one bit width; None without runs of both schedules that are alike in all else.

    Within each (parameters, tokens, seed, corpus, quantizer) the best classic run is compared with the best fused one,
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


@dataclass(frozen=True, kw_only=True)
class Fusion:
    """Whether to let the cooldown of the learning rate fall into the QAT phase."""

    advised: bool
    why: str
    source: str
    gain: float | None = None
    """Of log loss, measured."""
    pairs: int = 0
    """Of runs behind it."""
    saved_tokens: float | None = None
    """Tokens beyond the plan's that the classic schedule would need for the same loss; None where none suffice."""
    saved_tokens_range: tuple[float | None, float | None] | None = None
    """The same for the gains that the paper reports, where no runs measure them."""


def advice(objective: Objective, plan: Candidate, measured: Measured | None, *, given_model: bool = False) -> Fusion:
    """Whether to fuse at this plan, why, and what it saves in tokens.

    Measured runs outweigh the paper; fusing is advised where it gains more than twice its standard error. Where only
    the paper speaks, the gains it reports are put into tokens by the law. A given model has had its cooldown.
    """

    def saved(loss: float) -> float | None:
        start = math.log(plan.tokens)
        found = objective.log_tokens_at_best(plan.n, plan.bits, loss, start, start + _FAR)
        return None if found is None else math.exp(found) - plan.tokens

    if not plan.quantized:
        return Fusion(advised=False, why="full precision has no QAT phase to fuse", source="the plan")
    if given_model:
        return Fusion(
            advised=False,
            why="that takes a checkpoint from before the cooldown, and a given model counts as finished",
            source="the schedules of " + _PAPER,
        )
    if measured is None:
        source = f"{_PAPER}; no runs of both schedules at {plan.bits:g} bits were given"
        if plan.bits < 4:
            beyond = "; 3 bits were not reported" if plan.bits > 2 else ""
            why = f"no gain, and at times harm, was reported at 1 and 2 bits{beyond}"
            return Fusion(advised=False, why=why, source=source)
        # A gain in perplexity p takes -ln(1 - p) off the loss.
        low, high = (saved(plan.loss + math.log1p(-gain)) for gain in REPORTED)
        why = "gains of 0.06 to 1.7 % in perplexity, often worth over 10 % of the tokens, were reported at 4 and 6 bits"
        return Fusion(advised=True, why=why, source=source, saved_tokens_range=(low, high))
    advised = measured.gain > 0 and measured.sure
    verb = "lowers" if measured.gain > 0 else "raises"
    error = "" if measured.error is None else f" (standard error {100 * measured.error:.2g} %)"
    doubt = "" if measured.sure else ", which these pairs cannot tell from nothing"
    return Fusion(
        advised=advised,
        why=f"fusing {verb} the loss by {100 * abs(measured.gain):.2g} %{error}{doubt}",
        source=f"{measured.pairs} pairs of the runs given, each schedule at its own best fraction",
        gain=measured.gain,
        pairs=measured.pairs,
        saved_tokens=saved(plan.loss * math.exp(-measured.gain)) if advised else None,
    )
