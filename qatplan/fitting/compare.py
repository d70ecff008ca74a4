"""Several laws on the same rows, ranked by how well they predict rows they have not seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qatplan.errors import DataError, QatplanError, UsageError
from qatplan.fitting import diagnostics, noise
from qatplan.fitting.loss_law import refitted, solve_rows
from qatplan.fitting.rows import Rows, select
from qatplan.fitting.solver.objective import residuals
from qatplan.laws.law import Law
from qatplan.laws.registry import get


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One law's result; numbers are None where the law could not be fitted, and `note` says why."""

    law: str
    parameters: int | None
    rows: int
    mape: float | None
    max_ape: float | None
    in_sample_mape: float | None
    aic: float | None
    bic: float | None
    objective: float | None
    status: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Laws in order of held-out error, and the rows that they share."""

    entries: list[Entry]
    holdout: str
    rows: int
    held_out: int
    left_out: list[dict[str, Any]]
    scatter: float | None
    """Standard deviation of log loss between seeds, below which no law can predict; None without repeated seeds."""
    said: list[str]


def compare(
    table: Any,
    *,
    laws: Sequence[str] = ("qat-loss", "chen2025", "effective", "chinchilla-per-bits", "chinchilla"),
    holdout: str = "top-compute:0.2",
    huber: float = 1e-3,
    seed: int = 0,
    n: str = "total",
    rows: str | None = None,
    keep_tuning: bool = False,
) -> Comparison:
    """Fit every law on the rows that all of them can describe, and score each on the same held-out rows.

    A plain `chinchilla` takes part as the law that ignores bits. Each law leaves out the terms that no row supports.
    Laws that cannot be fitted are entries with the reason. Raises DataError where no row is common to all laws.
    """
    if len(set(laws)) != len(laws):
        raise UsageError(f"a law is named twice in {', '.join(laws)}")
    kinds = {name: get(name) for name in laws}
    for name, kind in kinds.items():
        if kind.quantity != "loss":
            raise UsageError(f"law {name} predicts a fraction, not a loss; it cannot be compared by held-out loss")
    if len(kinds) < 2:
        raise UsageError("a comparison needs at least two laws, such as --laws qat-loss,effective")
    common, left_out = _common_rows(table, kinds, rows=rows, n=n, keep_tuning=keep_tuning)
    mask = diagnostics.held_out(common, holdout)
    entries = [_entry(name, kind, common, mask, holdout, huber, seed) for name, kind in kinds.items()]
    entries.sort(key=lambda e: (e.mape is None, e.mape if e.mape is not None else math.inf))
    seeds = noise.seed_noise(common)
    return Comparison(
        entries=entries,
        holdout=holdout,
        rows=len(common),
        held_out=int(mask.sum()),
        left_out=left_out,
        scatter=None if seeds is None else seeds.sd,
        said=_verdict(entries, int(mask.sum())),
    )


def _common_rows(
    table: Any, kinds: dict[str, type[Law]], *, rows: str | None, n: str, keep_tuning: bool
) -> tuple[Rows, list[dict[str, Any]]]:
    """Rows of the law with the widest view that lie inside the domain of every law."""
    chosen = select(table, "comparison", shape=get("chinchilla"), expression=rows, n=n, keep_tuning=keep_tuning)
    keep = np.ones(len(chosen), dtype=np.bool_)
    left_out = list(chosen.left_out)
    for name, kind in kinds.items():
        outside = kind.for_inputs(chosen.x).outside(chosen.x)
        reasons = np.array([r or "" for r in outside])
        for reason in sorted({r for r in reasons.tolist() if r}):
            mask = keep & (reasons == reason)
            if mask.any():
                examples = [chosen.run_id[i] for i in np.flatnonzero(mask)[:3]]
                left_out.append({"reason": f"{reason} (law {name})", "rows": int(mask.sum()), "examples": examples})
            keep &= ~mask
    if not keep.any():
        raise DataError("no row lies inside the domain of all these laws", evidence=left_out)
    return chosen.take(keep), left_out


def _entry(name: str, kind: type[Law], rows: Rows, mask: np.ndarray, holdout: str, huber: float, seed: int) -> Entry:
    def refit(part: Rows) -> Law:
        return refitted(kind, part, huber=huber, seed=seed)

    try:
        solution, supported = solve_rows(kind, rows, huber=huber, seed=seed, restrict=True)
        scored = diagnostics.score(rows, mask, refit, holdout)
    except QatplanError as error:
        return Entry(
            law=name, parameters=None, rows=len(rows), mape=None, max_ape=None, in_sample_mape=None, aic=None,
            bic=None, objective=None, status="not fitted", note=str(error),
        )  # fmt: skip
    aic, bic = diagnostics.information_criteria(solution.objective, len(rows), solution.problem.size, huber)
    left = residuals(solution.problem, solution.u[None, :])[0]
    note = "; ".join(s for s in supported.said if "without it" in s)
    if scored["not_predictable"]:
        note = "; ".join(
            filter(None, [note, f"{scored['not_predictable']} held-out rows have bits it was not fitted on"])
        )
    return Entry(
        law=name,
        parameters=solution.problem.size,
        rows=len(rows),
        mape=scored["mape"],
        max_ape=scored["max_ape"],
        in_sample_mape=float(np.mean(np.abs(np.expm1(left)))),
        aic=aic,
        bic=bic,
        objective=solution.objective,
        status=str(solution.status),
        note=note,
    )


def _verdict(entries: Sequence[Entry], held_out: int) -> list[str]:
    """Whether the winner's parameters are worth it, in words."""
    known = [e for e in entries if e.mape is not None and e.parameters is not None]
    if len(known) < 2:
        return []
    best = known[0]
    assert best.mape is not None
    assert best.parameters is not None
    said = [f"{best.law} predicts the {held_out} held-out rows best ({100 * best.mape:.2g} % mean error)"]
    close = [
        e
        for e in known[1:]
        if e.mape is not None and e.parameters is not None and e.mape <= 1.15 * best.mape
        and e.parameters < best.parameters
    ]  # fmt: skip
    if close:
        simple = min(close, key=lambda e: e.parameters or 0)
        said.append(
            f"{simple.law} is within 15 % of that with {simple.parameters} instead of {best.parameters} parameters, so "
            "the extra ones buy little here"
        )
    by_bic = min(known, key=lambda e: e.bic if e.bic is not None else math.inf)
    if by_bic.law != best.law:
        said.append(
            f"BIC prefers {by_bic.law}; where both disagree, the held-out error is the better guide to larger runs"
        )
    return said
