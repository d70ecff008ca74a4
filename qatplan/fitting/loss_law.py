"""`fit`: from a table of runs to a fitted law with its certificate, its uncertainty and what it does not know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from qatplan.errors import DataError
from qatplan.fitting import diagnostics, identifiability, support
from qatplan.fitting.effects import solve_with_effects, supported
from qatplan.fitting.intervals.bootstrap import draw
from qatplan.fitting.intervals.profile import calibrate, intervals
from qatplan.fitting.intervals.trunk_effects import FEW_TRUNKS
from qatplan.fitting.options import FitOptions
from qatplan.fitting.provenance import provenance, ranges
from qatplan.fitting.rolling import bend_flags, rolling_origin
from qatplan.fitting.rows import Rows, select
from qatplan.fitting.solver.objective import residuals
from qatplan.fitting.solver.problem import build
from qatplan.fitting.solver.solve import Solution
from qatplan.fitting.tuning import tuning_flags
from qatplan.laws.fit_parts import LossDiagnostics, Origin, Pair
from qatplan.laws.fitted import FittedLaw, Status
from qatplan.laws.flags import Flag
from qatplan.laws.inputs import Floats
from qatplan.laws.law import Law, Parameter, natural
from qatplan.laws.qat_loss import QatLoss
from qatplan.laws.quantiles import central
from qatplan.laws.registry import get

_DIGITS = 10  # of stored draws: far below their scatter, and a third of the file

_FEW_STARTS = 8
"""Starts of each fit that only shows a trend."""


def fit_loss_law(
    table: Any, options: FitOptions, *, sources: Sequence[str] = (), command: str | None = None
) -> FittedLaw:
    """Fit a loss law to a runs table (Arrow) or to a mapping of columns with our field names.

    `sources` and `command` are recorded. The result is returned whatever its certificate says;
    `FittedLaw.require_trust` raises where it fails. Raises UsageError for options that do not suit the law and
    DataError for rows that cannot be used.
    """
    kind, huber, seed, level = get(options.law), options.huber, options.seed, options.level
    chosen, options, scratch = _rows(table, kind, options)
    solution, supports = solve_rows(chosen, options)
    law, size = _natural_law(solution, supports), solution.problem.size
    effects = solution.certificate.effects
    if effects is not None:
        # What trunks share is in the fit, so whitened rows are independent.
        chosen = replace(chosen, clustered=False)
    calibration = calibrate(solution, chosen, huber)
    error = residuals(solution.problem, solution.u[None, :])[0]
    made = draws = None
    if options.bootstrap:
        count, workers = options.bootstrap, options.workers
        made = draw(solution, chosen, count=count, seed=seed, delta=huber, kind=options.resample, workers=workers)
        draws = _natural_draws(law, made.theta, supports.fixed)
    bounds, how = dict[str, Pair](), "none"
    if options.interval == "profile":
        bounds, how = intervals(solution, chosen, delta=huber, level=level), "profile"
    elif draws is not None:
        bounds, how = _percentiles(solution.problem.free, law, draws, level), "bootstrap"
    at_bounds, open_questions = identifiability.describe(
        solution, chosen, calibration, bounds=bounds, level=level, draws=None if made is None else made.theta
    )
    seeds = diagnostics.seed_noise(chosen)
    flags = []
    if solution.status is not Status.GOOD:
        flags.append(Flag.UNTRUSTED(status=solution.status, message=solution.status.message))
    flags += [*at_bounds, *diagnostics.fit_quality(error, size, seeds, huber)]
    certificate = solution.certificate
    if made is not None:
        certificate = replace(certificate, bootstrap=made.how)
        if made.how.unfinished > 0.05 * made.how.draws:
            flags.append(Flag.UNFINISHED(unfinished=made.how.unfinished, draws=made.how.draws))
    if effects is not None and not effects.settled:
        flags.append(Flag.EFFECTS_UNSETTLED())
    if how == "profile" or (made is not None and made.how.kind != "case"):
        flags += _few_trunks(chosen, calibration.trunk_effect)
    flags += _about_rows(kind, chosen, size)
    refit = partial(refitted, options=options)
    origins: tuple[Origin, ...] | None = None
    if chosen.foreign:
        # What a sweep of ours balances by its design must be looked at elsewhere.
        column = "n_total" if options.n == "total" else "n_nonembedding"
        flags += tuning_flags(chosen.points, column)
        origins = rolling_origin(chosen, partial(refitted, options=options, starts=_FEW_STARTS)) or None
        flags += bend_flags(origins or (), column)
    holdout = None
    if options.holdout is not None:
        holdout = diagnostics.score(chosen, diagnostics.held_out(chosen, options.holdout), refit, options.holdout)
    aic, bic = diagnostics.information_criteria(
        solution.objective, len(chosen), size, huber, solution.problem.whitening
    )
    return FittedLaw(
        law=law,
        draws=draws,
        intervals=bounds,
        interval_kind=how,
        level=level,
        objective=solution.objective,
        rows=len(chosen),
        left_out=chosen.left_out,
        status=solution.status,
        flags=tuple(flags),
        identifiability=(*scratch, *supports.notes, *open_questions),
        holdout=holdout,
        n_convention=options.n,
        bytes_per_token=chosen.bytes_per_token,
        noise=diagnostics.residual_deviation(error, size),
        seed_noise=None if seeds is None else seeds.sd,
        ranges=ranges(chosen),
        huber=huber,
        certificate=certificate,
        diagnostics=LossDiagnostics(
            residuals=diagnostics.residual_tables(chosen, error),
            rolling_origin=origins,
            leave_one_size_out=diagnostics.leave_one_size_out(chosen, refit) if options.leave_one_size_out else None,
            aic=aic,
            bic=bic,
        ),
        derived=law.derived(),
        provenance=provenance(chosen, seed=seed, sources=sources, command=command, rows=options.rows),
    )


def _rows(table: Any, kind: type[Law], options: FitOptions) -> tuple[Rows, FitOptions, tuple[str, ...]]:
    """(rows, options, a note), the options and the note changed where the law was narrowed to suit the rows."""

    def rows_with(fix: Mapping[str, float]) -> Rows:
        return select(
            table, kind.name, shape=kind, expression=options.rows, n=options.n, keep_tuning=options.keep_tuning, fix=fix
        )

    narrow = options.restrict and kind is QatLoss and "lam" not in options.fix
    try:
        chosen = rows_with(options.fix)
    except DataError as error:
        if not narrow and kind is QatLoss and _only_scratch(error):
            hint = "--restrict fits runs quantized from the start, without the interaction"
            raise DataError(f"{error}; {hint}", evidence=error.evidence) from error
        if not narrow:
            raise
        chosen = None
    if chosen is not None and (not narrow or np.any(chosen.x.quantized)):
        return chosen, options, ()
    # QAT from scratch throughout: the law without its interaction holds for such rows, which is better than none.
    fix = {**options.fix, "lam": 0.0}
    wider = rows_with(fix)
    if chosen is not None and not np.any(wider.x.quantized):
        return chosen, options, ()
    note = (
        "all quantized rows have D_fp = 0, where the interaction term is infinite; the law was fitted without it "
        "(lam = 0) and says nothing about how to split tokens"
    )
    return wider, replace(options, fix=fix), (note,)


def _only_scratch(error: DataError) -> bool:
    """Whether rows were left out because they have no full-precision phase."""
    return any("D_fp = 0" in left.reason for left in error.evidence or ())


def solve_rows(rows: Rows, options: FitOptions) -> tuple[Solution, support.Support]:
    """Check what the rows support of the law asked for, and find the best fit of it."""
    kind = get(options.law)
    try:
        supports = support.check(kind.for_inputs(rows.x), rows.x, fix=options.fix, restrict=options.restrict)
    except DataError as error:
        if not rows.left_out:
            raise
        most = max(rows.left_out, key=lambda e: e.rows)
        raise DataError(f"{error} (left out are {most.rows} rows: {most.reason})", evidence=rows.left_out) from error
    if not supports.law.terms(rows.x):
        raise DataError(f"{len(rows)} rows support no term of {kind.name}: {supports.terms_left_out[0]}")
    fixed = support.fixed_coordinates(supports)
    free = len(supports.law.parameters()) - len(fixed)
    if len(rows) < free:
        raise DataError(f"{len(rows)} rows cannot determine the {free} parameters of {kind.name}; {free} rows would")
    problem, effects = build(supports.law, rows.x, rows.y, fixed=fixed), supported(rows, options.effects)
    solution = solve_with_effects(problem, rows, effects, delta=options.huber, seed=options.seed, starts=options.starts)
    return solution, supports


def refitted(rows: Rows, options: FitOptions, starts: int | None = None) -> Law:
    """The best fit alone, without the terms that these rows do not support."""
    return _natural_law(*solve_rows(rows, replace(options, restrict=True, starts=starts)))


def _natural_law(solution: Solution, supports: support.Support) -> Law:
    """The fitted law in natural units; fixed parameters keep exactly their values."""
    return solution.problem.law.from_coordinates(solution.theta()).replace(supports.fixed)


def _natural_draws(law: Law, theta: Floats, fixed: Mapping[str, float]) -> Floats:
    parameters = law.parameters()
    rows = [{**natural(parameters, vector), **fixed} for vector in theta]
    values = np.array([[row[p.name] for p in parameters] for row in rows])
    return np.array([[float(f"{v:.{_DIGITS}g}") for v in row] for row in values])


def _percentiles(free: Sequence[Parameter], law: Law, draws: Floats, level: float) -> dict[str, Pair]:
    names = [p.name for p in law.parameters()]
    result = {}
    for p in free:
        column = draws[:, names.index(p.name)]
        column = column[np.isfinite(column)]
        if p.coordinate != "log":
            result[p.name] = central(column, level)
            continue
        # Between two draws lies their geometric mean: an amplitude may be spread over many decades.
        with np.errstate(divide="ignore"):
            low, high = np.exp(central(np.log(column), level))
        result[p.name] = (float(low), float(high))
    return result


def _about_rows(kind: type[Law], rows: Rows, parameters: int) -> list[str]:
    """Flags about what the rows are: too few, of several quantizers that no law here tells apart, or unseen bits."""
    flags = []
    if len(rows) < 3 * parameters:
        flags.append(Flag.FEW_ROWS(rows=len(rows), parameters=parameters))
    used: dict[float, set[str]] = {}
    for bits, method in zip(rows.x.bits.tolist(), rows.method, strict=True):
        if bits == bits and method[1] is not None:
            used.setdefault(bits, set()).add(method[1])
    mixed = [f"{b:g}" for b, names in sorted(used.items()) if len(names) > 1]
    if mixed:
        flags.append(Flag.MIXED(bits=", ".join(mixed)))
    if not kind.sees_bits and bool(np.any(rows.x.quantized)):
        flags.append(Flag.BLIND())
    return flags


def _few_trunks(rows: Rows, effect: float) -> list[str]:
    trunks = int(rows.cluster.max()) + 1
    if not rows.clustered or trunks >= FEW_TRUNKS:
        return []
    if effect > 0:
        return [Flag.FEW_TRUNKS(trunks=trunks, effect=effect)]
    return [Flag.FEW_TRUNKS_ALONE(trunks=trunks)]
