"""After a fit: which parameters, or combinations of them, the rows leave open, in words and with what would help."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.special import stdtrit

from qatplan.fitting.profile import Calibration
from qatplan.fitting.rows import Rows
from qatplan.fitting.solve import Solution
from qatplan.fitting.support import axis_of, rank_deficient
from qatplan.laws.inputs import Floats, Inputs
from qatplan.laws.law import Law, Parameter
from qatplan.laws.quantiles import quantiles

_TRADE_OFF = 0.985
_AT_MOST = 4
_ENOUGH = 50
"""Draws, to speak for the scatter."""
_OPEN = 1.0
"""How wide an interval of ln E may be."""


def describe(
    solution: Solution, rows: Rows, calibration: Calibration, draws: Floats | None = None
) -> tuple[list[str], list[str]]:
    """(flags, identifiability): what failed or sits at a bound, and what the rows do not determine.

    draws: (draws, parameters of the law) fitting coordinates. With them the scatter is theirs; they know the luck of
    trunks and how the law bends, both of which the calibration's straight lines miss.
    """
    problem = solution.problem
    law = problem.law.from_coordinates(solution.theta())
    flags = [_bound(law, p, rows) for p in problem.free if p.name in solution.at_bounds]
    names = [p.name for p in problem.free]
    said: list[str] = []
    null = rank_deficient(names, solution.information)
    null = [n for n in null if n not in solution.at_bounds]
    if null:
        said.append(
            f"{_list(null)} cannot be told apart at all: the rows fix only combinations of them; "
            f"{_remedy(law, null[0], rows.x)}"
        )
    every = [p.name for p in law.parameters()]
    values = dict(zip(every, law.coordinates(), strict=True))
    if draws is not None and len(draws) >= _ENOUGH:
        ends, correlation = _scatter_of_draws(draws[:, [every.index(name) for name in names]])
    else:
        sd, correlation = _scatter(problem.to_theta @ calibration.covariance @ problem.to_theta.T)
        # Shape parameters and E are their own coordinates, so the degrees of freedom are theirs.
        reach = stdtrit(calibration.freedom, 0.975) * sd
        ends = np.array([values[name] for name in names]) + np.stack([-reach, reach])
    for i, p in enumerate(problem.free):
        if p.name in null or p.name in solution.at_bounds:
            continue
        if p.name == "E" and ends[1, i] - ends[0, i] > _OPEN:
            low, high = np.exp(np.clip(ends[:, i], -300.0, 300.0))
            said.append(
                f"E is not determined ({law.params()['E']:.3g}, 95 % interval {low:.2g} to {high:.3g}): larger models "
                f"and longer runs would show where losses level off"
            )
        elif p.coordinate == "linear" and ends[1, i] - ends[0, i] > p.start[1] - p.start[0]:
            # As wide as the range in which such exponents are looked for: the rows add nothing to it.
            low, high = ends[:, i]
            said.append(
                f"{p.name} is hardly determined ({values[p.name]:.2g}, 95 % interval {low:.2g} to {high:.2g}): "
                f"{_remedy(law, p.name, rows.x)}"
            )
    said += _trade_offs(law, problem.free, correlation, rows.x, skip={*null, *solution.at_bounds})
    return flags, said


def _scatter(covariance: Floats) -> tuple[Floats, Floats]:
    """Standard deviations (p,) and correlations (p, p), 0 for what does not vary."""
    sd = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    scale = np.where(sd > 0, sd, np.inf)
    return sd, covariance / np.outer(scale, scale)


def _scatter_of_draws(draws: Floats) -> tuple[Floats, Floats]:
    """Ends (2, p) of 95 % intervals of draws (draws, p), and correlations (p, p) that normal variables with their ranks
    would have (Pearson 1907): in logs an amplitude near 0 may be anywhere."""
    ordered = np.sort(draws, axis=0)
    # Draws at a bound share their mean rank; by position they would seem to move together.
    ranks = np.stack(
        [np.searchsorted(o, d) + np.searchsorted(o, d, side="right") for o, d in zip(ordered.T, draws.T, strict=True)]
    )
    correlation = _scatter(np.cov(ranks.astype(np.float64)).reshape(len(ranks), len(ranks)))[1]
    return quantiles(draws, [0.025, 0.975]), 2.0 * np.sin(np.pi / 6.0 * correlation)


def _trade_offs(law: Law, free: tuple[Parameter, ...], correlation: Floats, x: Inputs, skip: set[str]) -> list[str]:
    """Pairs of shape parameters that move together; amplitudes always follow their exponents and are no news."""
    shapes = [i for i, p in enumerate(free) if (p.coordinate != "log" or p.name == "E") and p.name not in skip]
    pairs = []
    for a, i in enumerate(shapes):
        for j in shapes[a + 1 :]:
            if abs(correlation[i, j]) > _TRADE_OFF:
                pairs.append((abs(correlation[i, j]), correlation[i, j], free[i].name, free[j].name))
    said = []
    for _, together, one, other in sorted(pairs, reverse=True)[:_AT_MOST]:
        said.append(
            f"{one} and {other} trade off (correlation {together:.3f}): the rows determine a combination of them "
            f"better than either; {_remedy(law, other, x)}"
        )
    return said


def _bound(law: Law, parameter: Parameter, rows: Rows) -> str:
    value = law.params()[parameter.name]
    if parameter.coordinate == "log":
        if value < 1.0 or parameter.name == "E":
            end = "was driven to 0" if _is_small(law, parameter, rows) else "ended at its largest allowed value"
        else:
            end = "was driven to 0" if _is_small(law, parameter, rows) else "grew to its largest allowed value"
        why = ": the rows show no such term" if "0" in end else ""
        if parameter.name == "E":
            why = ": the losses show no level that they approach, so nothing may be extrapolated to larger runs"
        return f"{parameter.name} {end}{why}"
    return f"{parameter.name} ended at its bound {value:.4g} (allowed {parameter.lower:g} to {parameter.upper:g})"


def _is_small(law: Law, parameter: Parameter, rows: Rows) -> bool:
    for term in law.terms(rows.x):
        if term.amplitude == parameter.name:
            share = law.components(rows.x)[term.name] / rows.y
            return float(np.median(share[term.rows])) < 1e-3
    return True


def _remedy(law: Law, name: str, x: Inputs) -> str:
    axis = axis_of(law, name)
    if axis == "bits":
        have = np.unique(x.bits[x.quantized])
        listed = ", ".join(f"{b:g}" for b in have)
        gaps = [(hi - lo, lo, hi) for lo, hi in itertools.pairwise(have.tolist()) if hi - lo > 1]
        where = f"between {max(gaps)[1]:g} and {max(gaps)[2]:g}" if gaps else "outside these"
        return f"a bit width {where} would separate {name} (the rows have {listed or 'none'})"
    if axis == "model size":
        return f"model sizes beyond {x.n.min():.3g} to {x.n.max():.3g} parameters would separate {name}"
    if axis == "tokens":
        return f"token budgets beyond {x.d_total.min():.3g} to {x.d_total.max():.3g} would separate {name}"
    if axis in ("QAT tokens", "full-precision tokens"):
        f = x.fraction[x.quantized]
        spread = f"{f.min():.2g} to {f.max():.2g}" if f.size else "none"
        end = "closer to 0" if axis == "QAT tokens" else "closer to 1"
        return f"QAT fractions {end} (the rows have {spread}) would separate {name}"
    if axis == "group size":
        return f"further group sizes would separate {name}"
    return f"rows that differ more would separate {name}"


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
