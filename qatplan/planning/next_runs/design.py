"""Which runs to make next: those that most reduce the uncertainty of a stated target, within a budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from qatplan.errors import UsageError
from qatplan.laws import FittedLaw, Inputs, Status
from qatplan.models.costs import Training
from qatplan.planning.intervals import Interval, draws_of, theta
from qatplan.planning.next_runs.candidates import candidates
from qatplan.planning.next_runs.knowledge import Target, knowledge
from qatplan.planning.next_runs.selection import select
from qatplan.planning.recommend import default_bits
from qatplan.planning.request import require
from qatplan.planning.trust import Extrapolation, PlanStatus, extrapolation, status_of


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A number that the runs shall make surer."""

    name: str
    interval: Interval
    """Over the draws, before the runs."""
    width: float
    expected_width: float
    """Of the interval after the runs, as the linear-Gaussian model expects it."""
    weight: float
    """In the criterion; the weights add up to 1."""


@dataclass(frozen=True, kw_only=True)
class NextRun:
    """One run to make."""

    params: float
    """As the law counts them."""
    tokens: float
    bits: float | None
    """None is full precision."""
    fraction: float
    fp_tokens: float
    extra_flops: float
    """What it adds to the runs before it, trunks shared."""
    variance_left: float
    """Share of the target's variance that is left after it and the runs before it."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """Runs to make next, and what they buy."""

    target: Target
    runs: tuple[NextRun, ...]
    budget: float
    """FLOPs."""
    flops: float
    quantities: tuple[Quantity, ...]
    variance_left: float
    candidates: int
    level: float
    assumptions: tuple[str, ...]
    extrapolation: Extrapolation
    """How far the target lies outside what was measured."""
    status: PlanStatus

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of `qatplan design`."""
        return {**asdict(self), "status": str(self.status), "status_message": self.status.message}


def design(
    fit: FittedLaw,
    *,
    budget: float | None = None,
    gpu_hours: float | None = None,
    training: Training | None = None,
    runs: int = 12,
    target: Target = "fraction",
    params: float | None = None,
    tokens: float | None = None,
    bits: Sequence[float] | None = None,
    trunks: Mapping[float, float] | None = None,
    level: float = 0.95,
    extrapolation_limit: float = 10.0,
) -> Design:
    """At most `runs` runs that make the target surest, within `budget` FLOPs or `gpu_hours` of a device.

    `training` says the device; `bits` are those of `recommend.default_bits` unless given.

    `fraction`: the best QAT fraction of `params` parameters (as the law counts them) on `tokens` tokens, over `bits`.
    `bits`: which of `bits` has the lowest loss in the memory that `params` parameters take at the widest, so that
    narrower widths have more parameters. Without params or tokens, ten times the largest fitted ones are meant.
    Raises UsageError for a fit without draws or noise, or a budget that pays for nothing.
    """
    require(budget=budget, gpu_hours=gpu_hours, level=level, runs=runs, extrapolation_limit=extrapolation_limit)
    draws = draws_of(fit, level)
    if draws is None or len(theta(draws)) < 20:
        raise UsageError("a design needs a fit with at least 20 draws; fit again with --bootstrap 1000.")
    if not (math.isfinite(fit.noise) and fit.noise > 0):
        raise UsageError("a design needs the scatter of single runs, which this fit does not know.")
    if (budget is None) == (gpu_hours is None):
        raise UsageError("give the budget either in FLOPs (--budget 1e18) or in device hours (--gpu-hours 10).")
    if budget is None:
        budget = (gpu_hours or 0.0) * (training or Training()).flops_per_hour
    bits = bits or default_bits(fit)
    for size, kept in (trunks or {}).items():
        require(trunk_parameters=size, trunk_tokens=kept)
    if target == "bits" and len(set(bits)) < 2:
        raise UsageError("a choice of bits needs at least two widths to choose from.")
    largest = {name: fit.ranges.get(name, (math.nan, math.nan))[1] for name in ("n", "d_total")}
    params = 10.0 * largest["n"] if params is None else params
    tokens = 10.0 * largest["d_total"] if tokens is None else tokens
    possible = candidates(fit, bits=bits, budget=budget, target=(params, tokens), trunks=trunks)
    known, names = knowledge(fit, draws, possible, target=target, params=params, tokens=tokens, bits=bits)
    chosen = select(known, possible, budget=budget, runs=runs)
    lefts = known.left_each(chosen)
    bounds = zip(*draws.interval(known.targets), strict=True)
    shares = known.weights * np.sum(known.targets_factor**2, axis=0)
    x = possible.x
    distance = extrapolation(
        fit, Inputs.of(n=params, d_total=tokens, bits=max(bits), fraction=_middle(fit)), limit=extrapolation_limit
    )
    doubt = f"the fit is doubtful, so its draws may understate what is unknown: {fit.status.message}"
    return Design(
        target=target,
        runs=tuple(
            NextRun(
                params=float(x.n[run]),
                tokens=float(x.d_total[run]),
                bits=None if math.isnan(x.bits[run]) else float(x.bits[run]),
                fraction=float(x.fraction[run]),
                fp_tokens=float(x.d_fp[run]),
                extra_flops=float(possible.extra_flops(chosen[:i])[run]),
                variance_left=known.left(chosen[: i + 1]),
            )
            for i, run in enumerate(chosen)
        ),
        budget=budget,
        flops=possible.flops(chosen),
        quantities=tuple(
            Quantity(
                name=name,
                interval=(float(low), float(high)),
                width=float(high - low),
                expected_width=float((high - low) * math.sqrt(left)),
                weight=float(share),
            )
            for name, (low, high), left, share in zip(names, bounds, lefts, shares, strict=True)
        ),
        variance_left=known.left(chosen),
        candidates=len(possible),
        level=level,
        assumptions=(
            f"the target is meant at {params:.4g} parameters and {tokens:.4g} tokens",
            f"runs cost 6 FLOPs per token and parameter; runs of one size share a trunk, and {possible.cooldown:g} of "
            "each full-precision phase is a cooldown of its own",
            f"losses of single runs scatter by {100 * fit.noise:.3g} % about the law, each run by itself",
            "the law is right, and nearly linear over its draws",
            *(() if fit.status is Status.GOOD else (doubt,)),
        ),
        extrapolation=distance,
        status=status_of(fit, distance),
    )


def _middle(fit: FittedLaw) -> float:
    """A fraction that was fitted: the target's own is what the runs shall find."""
    low, high = fit.ranges.get("fraction", (0.5, 0.5))
    return 0.5 * (low + high)
