"""`fit`: from a table of runs to a fitted law with its certificate, its uncertainty and what it does not know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qatplan.errors import DataError
from qatplan.fitting import (
    diagnostics,
    identifiability,
    noise,
    support,
)
from qatplan.fitting.intervals.bootstrap import draw
from qatplan.fitting.intervals.profile import calibrate, intervals
from qatplan.fitting.intervals.trunk_effects import FEW_TRUNKS
from qatplan.fitting.options import FitOptions
from qatplan.fitting.provenance import provenance, ranges
from qatplan.fitting.rows import Rows, select
from qatplan.fitting.solver.objective import residuals
from qatplan.fitting.solver.problem import build
from qatplan.fitting.solver.solve import Solution, solve
from qatplan.laws.fitted import FittedLaw, Status
from qatplan.laws.inputs import Floats
from qatplan.laws.law import Law, Parameter, natural
from qatplan.laws.quantiles import quantiles
from qatplan.laws.registry import get

_DIGITS = 10  # of stored draws: far below their scatter, and a third of the file


def fit_loss_law(
    table: Any, options: FitOptions, *, sources: Sequence[str] = (), command: str | None = None
) -> FittedLaw:
    """Fit a loss law to a runs table (Arrow) or to a mapping of columns with our field names.

    `sources` and `command` are recorded. The result is returned whatever its certificate says;
    `FittedLaw.require_trust` raises where it fails. Raises UsageError for options that do not suit the law and
    DataError for rows that cannot be used.
    """
    law, huber, seed, restrict = options.law, options.huber, options.seed, options.restrict
    bootstrap, level, n = options.bootstrap, options.level, options.n
    kind = get(law)
    fixed = dict(options.fix)

    def rows_with(fix: Mapping[str, float]) -> Rows:
        return select(table, law, shape=kind, expression=options.rows, n=n, keep_tuning=options.keep_tuning, fix=fix)

    chosen = rows_with(fixed)
    domain_said: list[str] = []
    if restrict and law == "qat-loss" and not np.any(chosen.x.quantized) and "lam" not in fixed:
        # QAT from scratch throughout: the law without its interaction holds for such rows, which is better than none.
        wider = select(
            table,
            law,
            shape=kind,
            expression=options.rows,
            n=n,
            keep_tuning=options.keep_tuning,
            fix={**fixed, "lam": 0.0},
        )
        if np.any(wider.x.quantized):
            chosen, fixed = wider, {**fixed, "lam": 0.0}
            domain_said.append(
                "all quantized rows have D_fp = 0, where the interaction term is infinite; the law was fitted "
                "without it (lam = 0) and says nothing about how to split tokens"
            )
    solution, supported = solve_rows(
        kind, chosen, huber=huber, seed=seed, fix=fixed, restrict=restrict, starts=options.starts
    )
    fitted_law = natural_law(solution, supported)
    calibration = calibrate(solution, chosen, huber)
    error = residuals(solution.problem, solution.u[None, :])[0]
    made = None
    if bootstrap:
        made = draw(
            solution, chosen, count=bootstrap, seed=seed, delta=huber, kind=options.resample, workers=options.workers
        )
    bounds: dict[str, tuple[float, float]] = {}
    draws, theta, how = None, None, "none"
    if made is not None:
        theta, draws = made.theta, _natural_draws(fitted_law, made.theta, supported.held)
    if options.interval == "profile":
        bounds, how = intervals(solution, chosen, delta=huber, level=level), "profile"
    elif draws is not None:
        bounds, how = _percentiles(solution.problem.free, fitted_law, draws, level), "bootstrap"
    flags, open_questions = identifiability.describe(
        solution, chosen, calibration, bounds=bounds, level=level, draws=theta
    )
    seeds = noise.seed_noise(chosen)
    flags += noise.fit_quality(error, solution.problem.size, seeds, huber)
    certificate = solution.certificate()
    if made is not None:
        certificate["bootstrap"] = {
            "draws": bootstrap, "kind": made.kind, "clusters": made.clusters, "unfinished": made.unfinished,
        }  # fmt: skip
        if made.unfinished > 0.05 * bootstrap:
            flags.append(f"{made.unfinished} of {bootstrap} draws did not converge tightly; intervals are rough")
    if how == "profile" or (made is not None and made.kind != "case"):
        flags += _few_trunks(chosen, calibration.luck)

    def refit(part: Rows) -> Law:
        return refitted(kind, part, huber=huber, seed=seed, fix=fixed)

    scored = None
    if options.holdout is not None:
        scored = diagnostics.score(chosen, diagnostics.held_out(chosen, options.holdout), refit, options.holdout)
    critique: dict[str, Any] = {"residuals": diagnostics.residual_tables(chosen, error)}
    if options.leave_one_size_out:
        critique["leave_one_size_out"] = diagnostics.leave_one_size_out(chosen, refit)
    aic, bic = diagnostics.information_criteria(solution.objective, len(chosen), solution.problem.size, huber)
    critique |= {"aic": aic, "bic": bic}
    if solution.status is not Status.GOOD:
        flags.insert(0, f"not trustworthy ({solution.status}): {solution.status.message}")
    if len(chosen) < 3 * solution.problem.size:
        flags.append(f"{len(chosen)} rows for {solution.problem.size} parameters: fewer than 3 rows each")
    flags += _mixed_methods(chosen)
    if law == "chinchilla" and bool(np.any(chosen.x.quantized)):
        flags.append("quantized rows are fitted by a law that does not see bits, because they were asked for")
    return FittedLaw(
        law=fitted_law,
        draws=draws,
        intervals=bounds,
        interval_kind=how,
        level=level,
        objective=solution.objective,
        rows=len(chosen),
        left_out=chosen.left_out,
        starts=solution.starts,
        starts_agreeing=solution.starts_agreeing,
        status=solution.status,
        flags=flags,
        identifiability=[*domain_said, *supported.said, *open_questions],
        holdout=scored,
        n_convention=n,
        noise=noise.scatter(error, solution.problem.size),
        seed_noise=None if seeds is None else seeds.sd,
        ranges=ranges(chosen),
        huber=huber,
        certificate=certificate,
        criticism=critique,
        derived=fitted_law.derived(),
        provenance=provenance(chosen, seed=seed, sources=sources, command=command, rows=options.rows),
    )


def solve_rows(
    kind: type[Law],
    rows: Rows,
    *,
    huber: float,
    seed: int,
    fix: Mapping[str, float] | None = None,
    restrict: bool = False,
    starts: int | None = None,
) -> tuple[Solution, support.Support]:
    """Check what the rows support, and find the best fit of it."""
    try:
        supported = support.check(kind.for_inputs(rows.x), rows.x, fix=fix or {}, restrict=restrict)
    except DataError as error:
        if not rows.left_out:
            raise
        most = max(rows.left_out, key=lambda e: int(e["rows"]))
        raise DataError(
            f"{error} (left out are {most['rows']} rows: {most['reason']})", evidence=rows.left_out
        ) from error
    held = support.held_coordinates(supported)
    free = len(supported.law.parameters()) - len(held)
    if len(rows) < free:
        raise DataError(
            f"{len(rows)} rows cannot determine the {free} parameters of {kind.name}; at least {free} would"
        )
    problem = build(supported.law, rows.x, rows.y, held=held)
    return solve(problem, delta=huber, seed=seed, starts=starts), supported


def refitted(kind: type[Law], rows: Rows, *, huber: float, seed: int, fix: Mapping[str, float] | None = None) -> Law:
    """The best fit alone, without the terms that these rows do not support."""
    return natural_law(*solve_rows(kind, rows, huber=huber, seed=seed, fix=fix, restrict=True))


def natural_law(solution: Solution, supported: support.Support) -> Law:
    """The fitted law in natural units; held parameters keep exactly their values."""
    return solution.problem.law.from_coordinates(solution.theta()).replace(supported.held)


def _natural_draws(law: Law, theta: Floats, held: Mapping[str, float]) -> Floats:
    parameters = law.parameters()
    rows = [{**natural(parameters, vector), **held} for vector in theta]
    values = np.array([[row[p.name] for p in parameters] for row in rows])
    return np.array([[float(f"{v:.{_DIGITS}g}") for v in row] for row in values])


def _percentiles(free: Sequence[Parameter], law: Law, draws: Floats, level: float) -> dict[str, tuple[float, float]]:
    names = [p.name for p in law.parameters()]
    tail = 0.5 * (1 - level)
    result = {}
    for p in free:
        column = draws[:, names.index(p.name)]
        column = column[np.isfinite(column)]
        if p.coordinate == "log":
            # Between two draws lies their geometric mean: an amplitude may be spread over many decades.
            with np.errstate(divide="ignore"):
                low, high = np.exp(quantiles(np.log(column), [tail, 1 - tail]))
        else:
            low, high = quantiles(column, [tail, 1 - tail])
        result[p.name] = (float(low), float(high))
    return result


def _mixed_methods(rows: Rows) -> list[str]:
    """Whether runs of one bit width were made by several quantizers, which no law here tells apart."""
    used: dict[float, set[str]] = {}
    for bits, method in zip(rows.x.bits.tolist(), rows.method, strict=True):
        if bits == bits and method[1] is not None:
            used.setdefault(bits, set()).add(method[1])
    mixed = [f"{b:g}" for b, names in sorted(used.items()) if len(names) > 1]
    if not mixed:
        return []
    return [f"bits {', '.join(mixed)}: several quantizers are fitted as one; --rows can choose one of them"]


def _few_trunks(rows: Rows, luck: float) -> list[str]:
    trunks = int(rows.cluster.max()) + 1
    if not rows.clustered or trunks >= FEW_TRUNKS:
        return []
    if luck > 0:
        how = f"intervals hold for their sizes and trunks of the same kind, whose luck ({luck:.2g} in log loss)"
        return [f"only {trunks} trunks: {how} is inferred from the residuals"]
    return [f"only {trunks} trunks, whose luck does not show in the residuals: intervals leave it out"]
