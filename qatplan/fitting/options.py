"""What a user may ask of a fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from qatplan.errors import UsageError
from qatplan.laws.law import Law

Choice = Literal["none", "trunk", "curve", "auto"]
"""Of random effects."""


def holdout_of(spec: str) -> tuple[str, float]:
    """(kind, share of the rows) of `largest-n`, `largest-d` or `top-compute:SHARE`; UsageError for anything else."""
    kind, _, share_text = str(spec).partition(":")
    if kind not in ("largest-n", "largest-d", "top-compute") or (kind != "top-compute" and share_text):
        raise UsageError(f"holdout is {spec!r}; allowed are largest-n, largest-d or a share such as top-compute:0.2")
    if kind != "top-compute":
        return kind, 0.1
    try:
        share = float(share_text or "0.2")
    except ValueError as error:
        raise UsageError(f"the share in {spec!r} is not a number; write for instance top-compute:0.2") from error
    if not 0 < share < 1:
        raise UsageError(f"the share in {spec!r} is {share:g}; allowed is between 0 and 1")
    return kind, share


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """How a law is fitted; UsageError for a value that no fit can have."""

    law: str | type[Law] = "qat-loss"
    """A name, or a law of one's own as `qatplan.laws.registry.get` reads it."""
    huber: float = 1e-3
    """Delta of the Huber terms on log residuals."""
    seed: int = 0
    bootstrap: int = 0
    """Draws, 0 for none."""
    interval: str = "bootstrap"
    """`bootstrap` or `profile`: what the parameters' intervals come from; profile needs no draws."""
    level: float = 0.95
    """Of all intervals."""
    holdout: str | None = None
    """`largest-n`, `largest-d` or `top-compute:0.2`: what the law is asked to predict without having seen it."""
    leave_one_size_out: bool = False
    """Predict each size from the others."""
    n: str = "total"
    """Count of parameters: `total` or `nonembedding`."""
    rows: str | None = None
    """An expression that chooses rows."""
    keep_tuning: bool = False
    """Fit all learning rates tried at a point, not the best alone."""
    fix: Mapping[str, float] = field(default_factory=dict)
    """Parameters fixed at natural values; an amplitude at 0 removes its term. With the fraction law: parameters of the
    loss law that is fitted beside it."""
    restrict: bool = False
    """Leave out terms that no row supports."""
    effects: Choice = "none"
    """Random effects that runs of one trunk, and of one curve too, share; auto takes what the rows support."""
    starts: int | None = None
    """Starting points of the search; None is the law's own number."""
    resample: Literal["case", "residual"] | None = None
    """What a bootstrap draw resamples; None chooses by the number of rows."""
    workers: int = 1
    """Processes that share the draws."""

    def __post_init__(self) -> None:
        if self.holdout is not None:
            holdout_of(self.holdout)
        if not (self.huber > 0 and math.isfinite(self.huber)):
            raise UsageError(f"huber is {self.huber:g}; allowed is a positive number, usually 1e-3")
        if self.bootstrap < 0:
            raise UsageError(f"bootstrap is {self.bootstrap}; allowed is 0 (no draws) or more")
        if self.interval not in ("bootstrap", "profile"):
            raise UsageError(f"interval is {self.interval!r}; allowed are bootstrap and profile")
        if self.effects not in ("none", "trunk", "curve", "auto"):
            raise UsageError(f"effects is {self.effects!r}; allowed are none, trunk, curve and auto")
        if not 0 < self.level < 1:
            raise UsageError(f"level is {self.level:g}; allowed is between 0 and 1")
        least = math.ceil(round(2.0 / (1.0 - self.level), 6)) - 1
        if 0 < self.bootstrap < least:
            what = f"an interval of {100 * self.level:g} %"
            raise UsageError(f"bootstrap is {self.bootstrap}; {what} takes at least {least} draws")
