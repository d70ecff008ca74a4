"""After a fit: which parameters, or combinations of them, are not identified, and what rows would help."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from statistics import NormalDist

import numpy as np
from scipy.special import stdtrit

from qatplan.fitting.intervals.profile import Calibration
from qatplan.fitting.rows import Rows
from qatplan.fitting.solver.solve import Solution
from qatplan.fitting.support import rank_deficient
from qatplan.laws.fit_parts import Pair
from qatplan.laws.flags import Flag
from qatplan.laws.inputs import Floats, Inputs
from qatplan.laws.law import Law, Parameter

_TRADE_OFF = 0.985
_AT_MOST = 4
_ENOUGH = 50
"""Draws, to speak for the scatter."""
_OPEN = 1.0
"""How wide an interval of ln E may be."""


def describe(
    solution: Solution,
    rows: Rows,
    calibration: Calibration,
    *,
    bounds: Mapping[str, Pair],
    level: float,
    draws: Floats | None,
) -> tuple[list[str], list[str]]:
    """(flags, identifiability): what failed or sits at a bound, and what the rows do not determine.

    bounds: the fit's intervals at `level`, in natural units; without them straight lines of the calibration serve.
    draws: (draws, parameters of the law) fitting coordinates, or None; they know the trunk effects and how the law
    bends, both of which straight lines miss.
    """
    problem = solution.problem
    law = problem.law.from_coordinates(solution.theta())
    flags = [_at_bound(law, p, rows) for p in problem.free if p.name in solution.at_bounds]
    names = [p.name for p in problem.free]
    notes: list[str] = []
    null = [n for n in rank_deficient(names, solution.information) if n not in solution.at_bounds]
    if null:
        listed = " and ".join(filter(None, [", ".join(null[:-1]), null[-1]]))
        remedy = _remedy(problem.free[names.index(null[0])], rows.x)
        notes.append(f"{listed} cannot be told apart at all: the rows fix only combinations of them; {remedy}")
    sd, correlation = _scatter(problem.to_theta @ calibration.covariance @ problem.to_theta.T)
    if draws is not None and len(draws) >= _ENOUGH:
        every = [p.name for p in law.parameters()]
        correlation = _correlation(draws[:, [every.index(name) for name in names]])
    # Shape parameters and E are coordinates of their own, so the degrees of freedom are theirs.
    reach = np.minimum(stdtrit(calibration.freedom, 0.5 + 0.5 * level) * sd, 300.0)
    for i, p in enumerate(problem.free):
        judged = p.name == "E" if p.scales else p.coordinate in ("linear", "log")
        if p.name in null or p.name in solution.at_bounds or not judged:
            continue
        value, wide = law.params()[p.name], float(reach[i])
        logs = p.coordinate == "log"
        line = (value * math.exp(-wide), value * math.exp(wide)) if logs else (value - wide, value + wide)
        notes += _not_identified(law, p, bounds.get(p.name, line), level, rows.x)
    notes += _trade_offs(problem.free, correlation, rows.x, skip={*null, *solution.at_bounds})
    return flags, notes


def _not_identified(law: Law, parameter: Parameter, interval: Pair, level: float, x: Inputs) -> list[str]:
    """A sentence if the interval of E or of a shape parameter is too wide, judged as if it were one of 95 %."""
    low, high = interval
    scale = NormalDist().inv_cdf(0.975) / NormalDist().inv_cdf(0.5 + 0.5 * level)
    known = f"({law.params()[parameter.name]:.3g}, {100 * level:g} % interval {low:.2g} to {high:.3g})"
    if parameter.scales:
        if scale * math.log(high / max(low, 1e-300)) <= _OPEN:
            return []
        return [f"E is not determined {known}: larger models and longer runs would show where losses level off"]
    # As wide as the range in which such exponents are looked for: the rows add nothing to it.
    seen, looked = (low, high), parameter.start
    if parameter.coordinate == "log":
        seen, looked = (math.log(max(low, 1e-300)), math.log(high)), (math.log(looked[0]), math.log(looked[1]))
    if not scale * (seen[1] - seen[0]) > looked[1] - looked[0]:
        return []
    return [f"{parameter.name} is hardly determined {known}: {_remedy(parameter, x)}"]


def _scatter(covariance: Floats) -> tuple[Floats, Floats]:
    """Standard deviations (p,) and correlations (p, p), 0 for what does not vary."""
    sd = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    scale = np.where(sd > 0, sd, np.inf)
    return sd, covariance / np.outer(scale, scale)


def _correlation(draws: Floats) -> Floats:
    """(p, p) of draws (draws, p): what normal variables with their ranks would have (Pearson 1907).

    In logs an amplitude near 0 may be anywhere, which a correlation of values would be made of.
    """
    ordered = np.sort(draws, axis=0)
    # Draws at a bound share their mean rank; by position they would seem to move together.
    ranks = np.stack(
        [np.searchsorted(o, d) + np.searchsorted(o, d, side="right") for o, d in zip(ordered.T, draws.T, strict=True)]
    )
    together = _scatter(np.cov(ranks.astype(np.float64)).reshape(len(ranks), len(ranks)))[1]
    result: Floats = 2.0 * np.sin(np.pi / 6.0 * together)
    return result


def _trade_offs(free: tuple[Parameter, ...], correlation: Floats, x: Inputs, skip: set[str]) -> list[str]:
    """Pairs of shape parameters that move together; amplitudes always follow their exponents and are no news."""
    shapes = [i for i, p in enumerate(free) if (not p.scales or p.name == "E") and p.name not in skip]
    pairs = [
        (abs(correlation[i, j]), correlation[i, j], i, j)
        for i, j in itertools.combinations(shapes, 2)
        if abs(correlation[i, j]) > _TRADE_OFF
    ]
    return [
        f"{free[i].name} and {free[j].name} trade off (correlation {together:.3f}): the rows determine a combination "
        f"of them better than either; {_remedy(free[j], x)}"
        for _, together, i, j in sorted(pairs, reverse=True)[:_AT_MOST]
    ]


def _at_bound(law: Law, parameter: Parameter, rows: Rows) -> str:
    name, value = parameter.name, law.params()[parameter.name]
    ends = [end for end in (parameter.lower, parameter.upper) if 0 < end < math.inf]
    if not parameter.scales or any(math.isclose(value, end, rel_tol=1e-6) for end in ends):
        return Flag.AT_BOUND(name=name, value=value, lower=parameter.lower, upper=parameter.upper)
    level = ": the losses show no level that they approach, so nothing may be extrapolated to larger runs"
    if _is_small(law, parameter, rows):
        return Flag.GONE(name=name, why=level if name == "E" else ": the rows show no such term")
    end = "ended at" if value < 1.0 or name == "E" else "grew to"
    return Flag.LARGEST(name=name, end=end, why=level if name == "E" else "")


def _is_small(law: Law, parameter: Parameter, rows: Rows) -> bool:
    term = next((t for t in law.terms(rows.x) if t.amplitude == parameter.name), None)
    return term is None or float(np.median((law.components(rows.x)[term.name] / rows.y)[term.rows])) < 1e-3


def _remedy(parameter: Parameter, x: Inputs) -> str:
    """What rows would help, by the quantity that the parameter hangs on."""
    name, fraction = parameter.name, x.fraction[x.quantized]
    if parameter.of == "bits":
        have = np.unique(x.bits[x.quantized])
        listed = ", ".join(f"{b:g}" for b in have)
        gaps = [(hi - lo, lo, hi) for lo, hi in itertools.pairwise(have.tolist()) if hi - lo > 1]
        where = f"between {max(gaps)[1]:g} and {max(gaps)[2]:g}" if gaps else "outside these"
        return f"a bit width {where} would separate {name} (the rows have {listed or 'none'})"
    spread = f"{fraction.min():.2g} to {fraction.max():.2g}" if fraction.size else "none"
    wanted = {
        "n": f"model sizes beyond {x.n.min():.3g} to {x.n.max():.3g} parameters",
        "d_total": f"token budgets beyond {x.d_total.min():.3g} to {x.d_total.max():.3g}",
        "d_qat": f"QAT fractions closer to 0 (the rows have {spread})",
        "d_fp": f"QAT fractions closer to 1 (the rows have {spread})",
        "group_size": "further group sizes",
    }
    return f"{wanted.get(parameter.of, 'rows that differ more')} would separate {name}"
