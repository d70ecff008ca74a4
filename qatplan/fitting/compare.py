"""Several laws on the same rows, ranked by how well they predict rows they have not seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from qatplan.errors import DataError, QatplanError, UsageError
from qatplan.fitting import diagnostics
from qatplan.fitting.loss_law import refitted, solve_rows
from qatplan.fitting.options import Choice, FitOptions
from qatplan.fitting.rows import Rows, add_left_out, by_reason, select
from qatplan.fitting.solver.objective import residuals
from qatplan.laws.fit_parts import LeftOut
from qatplan.laws.law import Law
from qatplan.laws.registry import get

DEFAULT_LAWS = ("qat-loss", "chen2025", "effective", "chinchilla-per-bits", "chinchilla")
_FEW_LOST = 0.1
"""Share of the rows that a law may leave out for all and still take part by default."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One law's result; numbers are None where the law could not be fitted, and `error` says why."""

    law: str
    parameters: int | None = None
    rows: int
    mape: float | None = None
    """Mean absolute error on the held-out rows, a share of the loss."""
    max_ape: float | None = None
    in_sample_mape: float | None = None
    aic: float | None = None
    bic: float | None = None
    objective: float | None = None
    status: str = "not fitted"
    error: str | None = None
    terms_left_out: tuple[str, ...] = ()
    """Why the law was fitted without some of its terms."""
    not_predictable: int = 0
    """Held-out rows whose bits it was not fitted on."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the comparison comes to."""

    best: Entry
    """Lowest held-out error."""
    simpler: Entry | None
    """The law of fewest parameters within 15 % of that error, if it has fewer."""
    by_bic: Entry


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Laws in order of held-out error, and the rows that they share."""

    entries: tuple[Entry, ...]
    holdout: str
    rows: int
    held_out: int
    left_out: tuple[LeftOut, ...]
    seed_noise: float | None
    """Standard deviation of log loss between seeds, below which no law can predict; None without repeated seeds."""
    verdict: Verdict | None
    """None where fewer than two laws could be scored, or the best two are equal on these rows."""


def compare(
    table: Any,
    *,
    laws: Sequence[str | type[Law]] | None = None,
    holdout: str = "top-compute:0.2",
    huber: float = 1e-3,
    seed: int = 0,
    n: str = "total",
    rows: str | None = None,
    keep_tuning: bool = False,
    effects: Choice = "none",
) -> Comparison:
    """Fit every law on the rows that all of them can describe, and score each on the same held-out rows.

    Without `laws`, those of DEFAULT_LAWS take part that describe nearly all rows; a plain `chinchilla` among them is
    the law that ignores bits. Each law leaves out the terms that no row supports. Laws that cannot be fitted, or would
    cost rows, are entries with the reason. Raises DataError where no row is common to all laws, and where none of the
    common rows is quantized: there these laws are one.
    """
    asked_for, kinds = laws is not None, [get(law) for law in (DEFAULT_LAWS if laws is None else laws)]
    refuse_twice(kinds)
    for kind in kinds:
        if kind.quantity != "loss":
            raise UsageError(f"law {kind.name} predicts a fraction, not a loss; it cannot be compared by held-out loss")
    if len(kinds) < 2:
        raise UsageError("a comparison needs at least two laws, such as --laws qat-loss,effective")
    widest = select(table, "comparison", shape=get("chinchilla"), expression=rows, n=n, keep_tuning=keep_tuning)
    unsuited = [] if asked_for else _unsuited(widest, kinds)
    kinds = [kind for kind in kinds if kind.name not in {entry.law for entry in unsuited}]
    common = _common_rows(widest, kinds)
    _refuse_full_precision(common, widest, asked_for)
    mask = diagnostics.held_out(common, holdout)
    asked = FitOptions(huber=huber, seed=seed, effects=effects, restrict=True)
    entries = [_entry(common, mask, holdout, replace(asked, law=kind)) for kind in kinds]
    entries = [*sorted(entries, key=_error), *unsuited]
    seeds = diagnostics.seed_noise(common)
    return Comparison(
        entries=tuple(entries),
        holdout=holdout,
        rows=len(common),
        held_out=int(mask.sum()),
        left_out=common.left_out,
        seed_noise=None if seeds is None else seeds.sd,
        verdict=_verdict(entries),
    )


def _refuse_full_precision(common: Rows, chosen: Rows, asked_for: bool) -> None:
    """Laws named for rows of full precision are compared there, and come out equal."""
    lost = int(chosen.x.quantized.sum())
    if common.x.quantized.any() or (asked_for and not lost):
        return
    why = f"{lost} quantized rows are left out: {common.left_out[-1].reason}" if lost else "fit chinchilla to them"
    what = f"none of the {len(common)} rows that these laws share is quantized, and in full precision the laws are one"
    raise DataError(f"{what}; {why}", evidence=list(common.left_out))


def refuse_twice(kinds: Sequence[type[Law]]) -> None:
    """Raise UsageError where two laws have one name."""
    names = [kind.name for kind in kinds]
    if len(set(names)) != len(names):
        raise UsageError(f"a law is named twice in {', '.join(names)}")


def _unsuited(chosen: Rows, kinds: Sequence[type[Law]]) -> list[Entry]:
    """Laws that would leave more than a tenth of the rows out for all, each with the commonest reason."""
    found = []
    for kind in kinds:
        reasons = sorted(by_reason(kind.for_inputs(chosen.x), chosen.x), key=lambda each: -int(each[1].sum()))
        lost = sum(int(mask.sum()) for _, mask in reasons)
        if lost > _FEW_LOST * len(chosen):
            why = f"it describes {len(chosen) - lost} of the {len(chosen)} rows: {reasons[0][0]}"
            found.append(Entry(law=kind.name, rows=len(chosen) - lost, error=f"{why}; --laws compares it on those"))
    return found


def _common_rows(chosen: Rows, kinds: Sequence[type[Law]]) -> Rows:
    """The rows that lie inside the domain of every law."""
    keep = np.ones(len(chosen), dtype=np.bool_)
    left_out = list(chosen.left_out)
    for kind in kinds:
        for reason, mask in by_reason(kind.for_inputs(chosen.x), chosen.x):
            ids = [chosen.run_id[i] for i in np.flatnonzero(keep & mask)]
            if ids:
                left_out.append(add_left_out(None, f"{reason} (law {kind.name})", ids))
            keep &= ~mask
    if not keep.any():
        raise DataError("no row lies inside the domain of all these laws", evidence=left_out)
    return replace(chosen.take(keep), left_out=tuple(left_out))


def _entry(rows: Rows, mask: np.ndarray, holdout: str, options: FitOptions) -> Entry:
    try:
        solution, supported = solve_rows(rows, options)
        scored = diagnostics.score(rows, mask, partial(refitted, options=options), holdout)
    except QatplanError as error:
        return Entry(law=get(options.law).name, rows=len(rows), error=str(error))
    problem = solution.problem
    aic, bic = diagnostics.information_criteria(
        solution.objective, len(rows), problem.size, options.huber, problem.whitening
    )
    left = residuals(problem, solution.u[None, :])[0]
    return Entry(
        law=get(options.law).name,
        parameters=problem.size,
        rows=len(rows),
        mape=scored.mape,
        max_ape=scored.max_ape,
        in_sample_mape=float(np.mean(np.abs(np.expm1(left)))),
        aic=aic,
        bic=bic,
        objective=solution.objective,
        status=str(solution.status),
        terms_left_out=supported.terms_left_out,
        not_predictable=scored.not_predictable,
    )


def _error(entry: Entry) -> float:
    return math.inf if entry.mape is None else entry.mape


def _verdict(entries: Sequence[Entry]) -> Verdict | None:
    """Whether the winner's parameters are worth it."""
    known = [e for e in entries if e.mape is not None]
    if len(known) < 2 or _equal(known[0], known[1]):
        return None
    best = known[0]
    close = [e for e in known if _error(e) <= 1.15 * _error(best) and _size(e) < _size(best)]
    return Verdict(
        best=best,
        simpler=min(close, key=_size, default=None),
        by_bic=min(known, key=lambda e: math.inf if e.bic is None else e.bic),
    )


def _equal(one: Entry, other: Entry) -> bool:
    """Whether two laws are the same on these rows, so that neither predicts better."""
    pairs = ((one.mape, other.mape), (one.objective, other.objective))
    return all(a is not None and b is not None and math.isclose(a, b, rel_tol=1e-6) for a, b in pairs)


def _size(entry: Entry) -> int:
    return entry.parameters or 0
