"""Which runs to make next: those that most reduce the uncertainty of a stated target, within a budget.

The fit's draws stand for what is known. Over them, the target and the predicted log losses of the candidate runs are
taken as jointly Gaussian: measuring runs S, each with the fit's scatter, leaves the target the variance

    V(t | S) = C_tt - C_tS (C_SS + noise^2 I)^-1 C_St,    C the covariance over draws

(Bayesian linear design: Chaloner & Verdinelli 1995, doi 10.1214/ss/1177009939, section 2). Runs are added greedily, by
gain and by gain per FLOP, then exchanged one at a time while that helps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from qatplan.errors import UsageError
from qatplan.laws import FittedLaw, Status, optimal_fraction
from qatplan.laws.inputs import Floats
from qatplan.laws.law import predict_many
from qatplan.laws.quantiles import quantiles
from qatplan.planning.intervals import Interval
from qatplan.planning.next_runs.candidates import CandidateRuns, candidates
from qatplan.planning.objective import Objective

Target = Literal["fraction", "bits"]
_MOST_DRAWS = 500
_SWEEPS = 6


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

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of `qatplan design`."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """Draws of targets and predicted log losses, as factors of their covariance: C = factor^T factor."""

    targets: Floats
    """(draws, targets)."""
    weights: Floats
    """(targets,): 1 / variance times importance, so that the criterion starts at 1."""
    targets_factor: Floats
    """(rank, targets)."""
    runs_factor: Floats
    """(rank, runs)."""
    noise: float

    def left(self, chosen: Sequence[int]) -> float:
        """Share of the weighted variance of the targets that is left after the chosen runs."""
        targets, _ = self._after(chosen)
        return float(np.sum(self.weights * np.sum(targets**2, axis=0)))

    def left_each(self, chosen: Sequence[int]) -> Floats:
        """(targets,): share of each target's variance that is left."""
        targets, _ = self._after(chosen)
        before = np.sum(self.targets_factor**2, axis=0)
        share: Floats = np.sum(targets**2, axis=0) / np.where(before > 0, before, 1.0)
        return share

    def gains(self, chosen: Sequence[int]) -> Floats:
        """(runs,): by how much each further run lowers `left`."""
        targets, runs = self._after(chosen)
        result: Floats = self.weights @ (targets.T @ runs) ** 2 / (np.sum(runs**2, axis=0) + self.noise**2)
        return result

    def _after(self, chosen: Sequence[int]) -> tuple[Floats, Floats]:
        """Factors after the chosen runs: each shrinks its own direction by noise / sqrt(size^2 + noise^2)."""
        targets, runs = self.targets_factor, self.runs_factor
        for run in chosen:
            a = runs[:, run]
            size = float(a @ a)
            if size > 0:
                b = a * ((1.0 - self.noise / math.sqrt(size + self.noise**2)) / size)
                targets, runs = targets - np.outer(b, a @ targets), runs - np.outer(b, a @ runs)
        return targets, runs


def design(
    fit: FittedLaw,
    *,
    budget: float,
    runs: int = 12,
    target: Target = "fraction",
    params: float | None = None,
    tokens: float | None = None,
    bits: Sequence[float],
    trunks: Mapping[float, float] | None = None,
    level: float = 0.95,
) -> Design:
    """At most `runs` runs within `budget` FLOPs that make the target surest.

    `fraction`: the best QAT fraction of `params` parameters (as the law counts them) on `tokens` tokens, over `bits`.
    `bits`: which of `bits` has the lowest loss in the memory that `params` parameters take at the widest, so that
    narrower widths have more parameters. Without params or tokens, ten times the largest fitted ones are meant.
    Raises UsageError for a fit without draws or noise, or a budget that pays for nothing.
    """
    if fit.draws is None or len(fit.draws) < 20:
        raise UsageError("a design needs a fit with at least 20 draws; fit again with --bootstrap 1000.")
    if not (math.isfinite(fit.noise) and fit.noise > 0):
        raise UsageError("a design needs the scatter of single runs, which this fit does not know.")
    if not (math.isfinite(budget) and budget > 0):
        raise UsageError(f"budget is {budget:g} FLOPs, but it must be a finite number above 0.")
    if not 0 < level < 1:
        raise UsageError(f"level is {level:g}, but it must lie between 0 and 1.")
    for size, kept in (trunks or {}).items():
        if not (math.isfinite(size) and size > 0 and math.isfinite(kept) and kept > 0):
            raise UsageError(f"a trunk of {size:g} parameters and {kept:g} tokens is none; both must be above 0.")
    if runs < 1:
        raise UsageError(f"runs is {runs}, but it must be at least 1.")
    if target == "bits" and len(set(bits)) < 2:
        raise UsageError("a choice of bits needs at least two widths to choose from.")
    possible = candidates(fit, bits=bits, budget=budget, trunks=trunks)
    params = 10.0 * fit.ranges["n"][1] if params is None else params
    tokens = 10.0 * fit.ranges["d_total"][1] if tokens is None else tokens
    known, names = knowledge(fit, possible, target=target, params=params, tokens=tokens, bits=bits)
    chosen = select(known, possible, budget=budget, runs=runs)
    lefts = known.left_each(chosen)
    tail = [0.5 * (1.0 - level), 0.5 * (1.0 + level)]
    bounds = quantiles(known.targets, tail).T
    shares = known.weights * np.sum(known.targets_factor**2, axis=0)
    x = possible.x
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
            *_doubt(fit),
        ),
    )


def _doubt(fit: FittedLaw) -> tuple[str, ...]:
    """What a fit that failed its own checks means for a design."""
    if fit.status is Status.GOOD:
        return ()
    return (f"the fit is doubtful, so its draws may understate what is unknown: {fit.status.message}",)


def knowledge(
    fit: FittedLaw, possible: CandidateRuns, *, target: Target, params: float, tokens: float, bits: Sequence[float]
) -> tuple[Knowledge, list[str]]:
    """What the draws say of the targets and of every candidate run, and the targets' names."""
    objective = Objective.of(fit)
    if not objective.sees_fraction:
        raise UsageError(f"law {fit.law.name} knows no split of the tokens; a design needs a fit of qat-loss.")
    assert fit.draws is not None
    step = max(1, len(fit.draws) // _MOST_DRAWS)
    theta = fit.draw_coordinates()[::step]
    widths = np.array(sorted(set(bits)))
    sizes = params if target == "fraction" else params * widths[-1] / widths
    best = optimal_fraction(fit.law, n=sizes, d_total=tokens, bits=widths, draws=theta)
    if target == "fraction":
        values = best.fraction
        importance = np.ones(len(widths))
        names = [f"best QAT fraction at {b:g} bits" for b in widths]
    else:
        logs = np.log(best.loss)
        first = int(np.argmin(optimal_fraction(fit.law, n=sizes, d_total=tokens, bits=widths).loss))
        others = [i for i in range(len(widths)) if i != first]
        values = logs[:, others] - logs[:, [first]]
        # A width that loses by many standard deviations is settled and needs no runs.
        importance = np.exp(-0.5 * (values.mean(axis=0) / np.maximum(values.std(axis=0), 1e-300)) ** 2) + 1e-6
        names = [f"log loss at {widths[i]:g} bits over that at {widths[first]:g} bits" for i in others]
    logs = _clipped(np.log(predict_many(fit.law, theta, possible.x)))
    scale = math.sqrt(len(theta) - 1)
    a, t = (logs - logs.mean(axis=0)) / scale, (values - values.mean(axis=0)) / scale
    variance = np.sum(t**2, axis=0)
    if not np.any(variance > 0):
        raise UsageError("the draws leave the target no uncertainty, so no run can reduce it.")
    directions = _directions(theta)
    inside = directions.T @ t
    # What no straight line in the parameters explains of a target stays with it, out of reach of any run.
    rest = np.diag(np.sqrt(np.maximum(variance - np.sum(inside**2, axis=0), 0.0)))
    runs_inside = np.concatenate([directions.T @ a, np.zeros((rest.shape[0], a.shape[1]))])
    weights = np.where(variance > 0, importance / np.where(variance > 0, variance, 1.0), 0.0)
    weights = weights / float(np.sum(importance[variance > 0]))
    return (
        Knowledge(
            targets=values,
            weights=weights,
            targets_factor=np.concatenate([inside, rest]),
            runs_factor=runs_inside,
            noise=fit.noise,
        ),
        names,
    )


def _directions(theta: Floats) -> Floats:
    """(draws, rank): orthonormal directions in which the parameters vary over the draws.

    Losses and targets are regressed on the parameters. Without that, a few hundred draws let many runs explain any
    target by chance.
    """
    # An amplitude held at 0 is -inf in every draw: nothing varies along it.
    theta = theta[:, np.isfinite(theta).any(axis=0)]
    finite = np.where(np.isfinite(theta), theta, np.nan)
    lowest = np.nanmin(finite, axis=0)
    columns = _clipped(np.where(np.isfinite(theta), theta, lowest))
    centred = columns - columns.mean(axis=0)
    spread = centred.std(axis=0)
    varying = spread > 1e-12 * (1.0 + np.abs(columns).max(axis=0))
    left, size, _ = np.linalg.svd(centred[:, varying] / spread[varying], full_matrices=False)
    result: Floats = left[:, size > 1e-9 * size[0]]
    return result


def _clipped(values: Floats) -> Floats:
    """Columns whose outermost hundredths, at least one value each, are pulled in: they could carry all variance."""
    ordered = np.sort(values, axis=0)
    outside = -(-len(ordered) // 100)
    result: Floats = np.clip(values, ordered[outside], ordered[-1 - outside])
    return result


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
