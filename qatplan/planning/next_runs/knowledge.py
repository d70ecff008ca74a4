"""What a fit's draws say of a target and of the runs that could be made, as a Gaussian.

Over the draws, the target and the predicted log losses of the candidate runs are taken as jointly Gaussian: measuring
runs S, each with the fit's scatter, leaves the target the variance

    V(t | S) = C_tt - C_tS (C_SS + noise^2 I)^-1 C_St,    C the covariance over draws

(Bayesian linear design: Chaloner & Verdinelli 1995, doi 10.1214/ss/1177009939, section 2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qatplan.errors import UsageError
from qatplan.laws import FittedLaw, optimal_fraction
from qatplan.laws.inputs import Floats
from qatplan.laws.predictor import Predictor
from qatplan.planning.intervals import theta, thinned
from qatplan.planning.next_runs.candidates import CandidateRuns
from qatplan.planning.objective import Objective

Target = Literal["fraction", "bits"]
_MOST_DRAWS = 500


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
        return float(np.sum(self.weights * np.sum(self._after(chosen)[0] ** 2, axis=0)))

    def left_each(self, chosen: Sequence[int]) -> Floats:
        """(targets,): share of each target's variance that is left."""
        before = np.sum(self.targets_factor**2, axis=0)
        share: Floats = np.sum(self._after(chosen)[0] ** 2, axis=0) / np.where(before > 0, before, 1.0)
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


def knowledge(
    fit: FittedLaw,
    draws: Predictor,
    possible: CandidateRuns,
    *,
    target: Target,
    params: float,
    tokens: float,
    bits: Sequence[float],
) -> tuple[Knowledge, list[str]]:
    """What the draws say of the targets and of every candidate run, and the targets' names."""
    objective = Objective.of(fit)
    if not objective.sees_fraction:
        raise UsageError(f"law {fit.law.name} knows no split of the tokens; a design needs a fit of qat-loss.")
    draws = thinned(draws, _MOST_DRAWS)
    vectors = theta(draws)
    widths = np.array(sorted(set(bits)))
    sizes = params if target == "fraction" else params * widths[-1] / widths
    best = optimal_fraction(fit.law, n=sizes, d_total=tokens, bits=widths, draws=vectors)
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
    logs = _clipped(np.log(draws.drawn(possible.x)))
    scale = math.sqrt(len(vectors) - 1)
    a, t = (logs - logs.mean(axis=0)) / scale, (values - values.mean(axis=0)) / scale
    variance = np.sum(t**2, axis=0)
    if not np.any(variance > 0):
        raise UsageError("the draws leave the target no uncertainty, so no run can reduce it.")
    directions = _directions(vectors)
    inside = directions.T @ t
    # What no straight line in the parameters explains of a target stays with it, out of reach of any run.
    rest = np.diag(np.sqrt(np.maximum(variance - np.sum(inside**2, axis=0), 0.0)))
    runs_inside = np.concatenate([directions.T @ a, np.zeros((rest.shape[0], a.shape[1]))])
    weights = np.where(variance > 0, importance / np.where(variance > 0, variance, 1.0), 0.0)
    weights = weights / float(np.sum(importance[variance > 0]))
    factors = {"targets_factor": np.concatenate([inside, rest]), "runs_factor": runs_inside}
    return Knowledge(targets=values, weights=weights, **factors, noise=fit.noise), names


def _directions(vectors: Floats) -> Floats:
    """(draws, rank): orthonormal directions in which the parameters vary over the draws.

    Losses and targets are regressed on the parameters. Without that, a few hundred draws let many runs explain any
    target by chance.
    """
    # An amplitude held at 0 is -inf in every draw: nothing varies along it.
    vectors = vectors[:, np.isfinite(vectors).any(axis=0)]
    finite = np.where(np.isfinite(vectors), vectors, np.nan)
    lowest = np.nanmin(finite, axis=0)
    columns = _clipped(np.where(np.isfinite(vectors), vectors, lowest))
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
