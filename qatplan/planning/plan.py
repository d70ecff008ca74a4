"""From a fit, a problem and the user's runs to advice: a full plan, or the fraction alone from the fraction law."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from qatplan.errors import DataError, UsageError
from qatplan.laws import FittedLaw, QatFraction, get
from qatplan.planning.evidence import slowdown
from qatplan.planning.fraction_only import FractionAdvice, advise
from qatplan.planning.problem import Problem
from qatplan.planning.recommend import RUN_COLUMNS, Recommendation, recommend

COLUMNS = tuple(dict.fromkeys((*slowdown.COLUMNS, *RUN_COLUMNS)))
"""Columns of a runs table that a plan looks at."""

_EXAMPLE = "qatplan recommend fit.json --memory 4GiB --tokens 1T --bits 2,3,4,8"


def plan(
    fit: FittedLaw | None,
    problem: Problem,
    *,
    law: str | None = None,
    split: FittedLaw | None = None,
    runs: Sequence[Mapping[str, Any]] = (),
) -> Recommendation | FractionAdvice:
    """The advice that a fit allows; without a fit, the published fraction law's, if `law` names it.

    `split` is a fit of a fraction law with the measured curves that it was made from; see `planning.evidence.split`.

    `runs` (rows with the columns of `COLUMNS`) measure how much longer a QAT token takes where the problem does not
    say it, whether fusing helps, and what both ends of the split cost. Raises UsageError for a law that does not fit
    the fit, and where no bit width has a plan.
    """
    if fit is None and law is None:
        raise UsageError(f"give a fit, or --law qat-fraction for the fraction alone; for instance: {_EXAMPLE}.")
    if fit is None and law is not None and get(law) is not QatFraction:
        raise UsageError(f"law {law} needs a fit; only qat-fraction works without one: qatplan fit RUNS --law {law}.")
    if fit is not None and law is not None and law != fit.law.name:
        raise UsageError(f"the fit holds law {fit.law.name}, not {law}; leave --law out or give another fit.")
    problem, remark = _with_slowdown(problem, runs)
    advice: Recommendation | FractionAdvice
    if fit is None or isinstance(fit.law, QatFraction):
        if split is not None:
            raise UsageError("split belongs to a fit of a loss law such as qat-loss; leave it out, or give one.")
        advice = advise(problem, fit)
    else:
        advice = recommend(fit, problem, runs=runs, split=split)
    return advice if remark is None else replace(advice, remarks=(remark,))


def _with_slowdown(problem: Problem, runs: Sequence[Mapping[str, Any]]) -> tuple[Problem, str | None]:
    """The problem with the slowdown that the runs measure, and a sentence about it; as it is without runs."""
    if problem.training.qat_slowdown is not None or not runs:
        return problem, None
    try:
        measured = slowdown.measured_slowdown(runs)
    except DataError as error:
        return problem, f"{error} A QAT token is taken to cost as much as any; --qat-slowdown says otherwise."
    training = replace(problem.training, qat_slowdown=measured.factor)
    return replace(problem, training=training), (
        f"A QAT token takes {measured.factor:.3f} times as long as a full-precision one ({measured.lowest:.3f} to "
        f"{measured.highest:.3f} over {measured.settings} settings, {measured.runs} runs)."
    )
