"""From budgets to a plan: the best choice over everything that is free, what it beat, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from qatplan.errors import UsageError
from qatplan.laws import FittedLaw, Inputs
from qatplan.laws.fit_parts import plain
from qatplan.models.costs import Cost, cost
from qatplan.models.memory import Memory, estimate
from qatplan.planning.candidate import Candidate
from qatplan.planning.comparisons import (
    Continuation,
    FullPrecision,
    Rule,
    continuation,
    full_precision,
    rules,
)
from qatplan.planning.evidence import fusion, split_ends
from qatplan.planning.intervals import Interval, assess
from qatplan.planning.matching import matching_interval
from qatplan.planning.objective import Objective
from qatplan.planning.problem import Problem
from qatplan.planning.solve import solve
from qatplan.planning.trust import (
    Extrapolation,
    PlanStatus,
    extrapolation,
    status_of,
)

RUN_COLUMNS = tuple(dict.fromkeys((*fusion.COLUMNS, *split_ends.COLUMNS)))
"""Columns of a runs table that `recommend` looks at."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One bit width with the best plan it allows."""

    plan: Candidate
    loss_interval: Interval | None
    """Confidence interval of the predicted loss."""
    fraction_interval: Interval | None
    """Interval of the optimal fraction; None without draws, or where the split was not free."""
    probability_best: float | None
    """Share of the draws in which this bit width wins."""
    beats_choice: float | None
    """Share of the draws in which it has a lower loss than the choice."""
    within_noise: bool | None
    """True when it cannot be told from the choice: by the draws, or without them by the scatter of single runs."""
    within_scatter: bool | None
    """True when its loss differs from the choice's by less than single runs scatter."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON: counts in parameters and tokens, losses in nats per token, memory in bytes."""
        plan = self.plan
        return {
            "bits": plan.bits,
            "params": round(plan.layout.parameters),
            "params_in_law": round(plan.n),
            "tokens": round(plan.tokens),
            "fp_tokens": round(plan.d_fp),
            "qat_tokens": round(plan.d_qat),
            "fraction": plan.fraction,
            "fraction_interval": self.fraction_interval,
            "loss": plan.loss,
            "loss_interval": self.loss_interval,
            "memory_bytes": math.ceil(plan.memory_bytes),
            "flops": plan.flops,
            "tokens_per_parameter_byte": plan.s_total,
            "probability_best": self.probability_best,
            "beats_choice": self.beats_choice,
            "within_noise": self.within_noise,
            "within_scatter": self.within_scatter,
            "binding": list(plan.binding),
        }


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """A plan that one can defend."""

    problem: Problem
    law: str
    choice: Option
    alternatives: tuple[Option, ...]
    excluded: dict[str, str]
    """Bit widths without a plan, and why."""
    new_run_interval: Interval | None
    """For the loss of one new run of the choice."""
    relief: dict[str, float]
    """Loss at the choice's bit width with twice the budget, for each budget that is used up."""
    rules: tuple[Rule, ...]
    full_precision: FullPrecision
    continuation: Continuation | None
    fused: dict[str, Any]
    cost: Cost
    memory: Memory
    extrapolation: Extrapolation
    assumptions: tuple[str, ...]
    flags: tuple[str, ...]
    status: PlanStatus
    draws: int
    fit: dict[str, Any]
    """Where the law comes from."""

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of `qatplan recommend`."""
        return {
            "choice": {**self.choice.as_dict(), "new_run_interval": self.new_run_interval},
            "alternatives": [option.as_dict() for option in self.alternatives],
            "excluded": self.excluded,
            "with_twice_the_budget": self.relief,
            "rules": [asdict(rule) for rule in self.rules],
            "full_precision": asdict(self.full_precision),
            "continuation": None if self.continuation is None else asdict(self.continuation),
            "fused_cooldown": self.fused,
            "cost": self.cost.as_dict(),
            "memory": self.memory.as_dict(),
            "assumptions": list(self.assumptions),
            "extrapolation": asdict(self.extrapolation),
            "status": str(self.status),
            "status_message": self.status.message,
            "flags": list(self.flags),
            "law": self.law,
            "level": self.problem.level,
            "draws": self.draws,
            "fit": self.fit,
        }


def default_bits(fit: FittedLaw | None) -> tuple[float, ...]:
    """Whole bit widths from 1 to 8 within the fitted range; 2, 3, 4 and 8 where no range is known."""
    if fit is None or "bits" not in fit.ranges:
        return (2.0, 3.0, 4.0, 8.0)
    low, high = fit.ranges["bits"]
    return tuple(float(b) for b in range(1, 9) if low <= b <= high) or (float(low),)


def recommend(fit: FittedLaw, problem: Problem, *, runs: Sequence[Mapping[str, Any]] = ()) -> Recommendation:
    """The plan of lowest predicted loss within the budgets, or the cheapest that reaches the target loss.

    The split is optimised continuously. `runs` (rows with the columns of `RUN_COLUMNS`) say whether fusing cooldown
    and QAT helps, for which the paper speaks without them, and what both ends of the split cost. Raises UsageError,
    naming the budget that binds, when no bit width has a plan.
    """
    objective = Objective.of(fit)
    plans: list[Candidate] = []
    excluded: dict[str, str] = {}
    for bits in dict.fromkeys(problem.bits):
        try:
            plans.append(solve(objective, problem, bits))
        except UsageError as error:
            excluded[f"{bits:g}"] = str(error)
    if not plans:
        # The narrowest width asks least of the memory, the widest most of nothing: its reason is the telling one.
        raise UsageError(
            excluded[f"{min(problem.bits):g}"] if problem.target_loss is None else list(excluded.values())[-1]
        )
    by_cost = problem.target_loss is not None
    plans.sort(key=lambda plan: (plan.flops, plan.loss) if by_cost else (plan.loss, plan.memory_bytes))
    choice = plans[0]
    free_split = problem.fraction is None and problem.fp_tokens is None and objective.sees_fraction
    judged = _at_equal_flops(objective, problem, plans) if by_cost else plans
    doubt = assess(fit, objective, plans, level=problem.level, free_split=free_split)
    ranks = assess(fit, objective, judged, level=problem.level, free_split=free_split) if by_cost else doubt
    options = []
    for i, plan in enumerate(plans):
        share = None if ranks.better_than_best is None else ranks.better_than_best[i]
        scatter = None if i == 0 else _within_scatter(fit, choice, judged[i])
        open_in_draws = None if share is None else share > 0.5 * (1.0 - problem.level)
        options.append(
            Option(
                plan=plan,
                loss_interval=None if doubt.loss is None else doubt.loss[i],
                fraction_interval=None if doubt.fraction is None else doubt.fraction[i],
                probability_best=None if ranks.share_best is None else ranks.share_best[i],
                beats_choice=None if i == 0 else share,
                within_noise=None if i == 0 else scatter if open_in_draws is None else open_in_draws,
                within_scatter=scatter,
            )
        )
    x = Inputs.of(n=choice.n, d_fp=choice.d_fp, d_qat=choice.d_qat, bits=choice.bits)
    distance = extrapolation(fit, x, limit=problem.extrapolation_limit)
    status = status_of(fit, distance)
    matched, never = matching_interval(fit, objective, choice, level=problem.level)
    return Recommendation(
        problem=problem,
        law=fit.law.name,
        choice=options[0],
        alternatives=tuple(options[1:]),
        excluded=excluded,
        new_run_interval=doubt.new_run,
        relief=_relief(objective, problem, choice),
        rules=()
        if problem.fp_tokens is not None or not objective.sees_fraction
        else rules(objective, choice, runs=runs, fitted_fractions=fit.ranges.get("fraction")),
        full_precision=replace(full_precision(objective, choice), tokens_interval=matched, never_share=never),
        continuation=continuation(objective, choice) if problem.fp_tokens is not None else None,
        fused=fusion.advice(
            objective,
            choice,
            fusion.measured_fusion(runs, choice.bits),
            given_model=problem.fp_tokens is not None,
        ),
        cost=cost(
            choice.layout,
            d_fp=0.0 if problem.fp_tokens is not None else choice.d_fp,
            d_qat=choice.d_qat,
            rates=problem.rates,
            sequence=problem.sequence,
        ),
        memory=estimate(
            choice.layout,
            form=problem.form(choice.bits),
            context=problem.context,
            batch=problem.batch,
            kv_format=problem.kv_format,
        ),
        extrapolation=distance,
        assumptions=_assumptions(fit, objective, problem, choice),
        flags=_flags(fit, objective, problem, options, distance, status),
        status=status,
        draws=doubt.draws,
        fit=_origin(fit),
    )


def _at_equal_flops(objective: Objective, problem: Problem, plans: list[Candidate]) -> list[Candidate]:
    """For a target loss, the plans that each bit width makes of the choice's FLOPs.

    The width that reaches the target with the fewest FLOPs is the one of lowest loss at those FLOPs, so losses at equal
    FLOPs say how sure the choice is. The choice itself stays as it is.
    """
    limited = replace(problem, target_loss=None, flops=plans[0].flops, gpu_hours=None)
    return [plans[0], *(solve(objective, limited, plan.bits) for plan in plans[1:])]


def _relief(objective: Objective, problem: Problem, choice: Candidate) -> dict[str, float]:
    """What would change the plan: the loss with twice of each budget that binds, everything else as it is."""
    if problem.target_loss is not None:
        return {}
    free = [name for name in choice.binding if name != "memory" or problem.size_is_free]
    return {
        name: solve(objective, replace(problem, **{name: 2.0 * getattr(problem, name)}), choice.bits).loss
        for name in free
    }


def _within_scatter(fit: FittedLaw, choice: Candidate, other: Candidate) -> bool | None:
    """Whether the two losses differ by less than single runs scatter; None for a fit that does not know."""
    noise = fit.seed_noise if fit.seed_noise is not None else fit.noise
    return abs(math.log(other.loss / choice.loss)) < noise if math.isfinite(noise) else None


def _assumptions(fit: FittedLaw, objective: Objective, problem: Problem, choice: Candidate) -> tuple[str, ...]:
    lines = [
        f"the law {fit.law.name} holds for runs made like those it was fitted on (quantizer, schedule, data)",
        f"parameters in the law count {'no embeddings' if objective.nonembedding else 'embeddings too'}; "
        f"this model has {choice.n:.4g} of them",
    ]
    if choice.layout.inferred:
        lines.append(f"the model's shape is {choice.layout.source}")
    else:
        lines.append(f"the model's shape is that of {choice.layout.name}, from {choice.layout.source}")
    rates, form = problem.rates, problem.form(choice.bits)
    lines += [
        f"memory holds weights in {form.name} (embeddings at {form.embedding_bits:g} bits), {problem.kv_format} keys "
        f"and values for {problem.batch} x {problem.context:,} tokens, and a workspace for 512 prompt tokens",
        f"training in sequences of {problem.sequence:,} tokens on {rates.device.name} in {rates.dtype} at "
        f"{100 * rates.utilisation:g} % of its peak ({rates.device.source})",
        "a QAT token takes as long as a full-precision one"
        if rates.qat_slowdown == 1.0
        else f"a QAT token takes {rates.qat_slowdown:g} times as long as a full-precision one",
    ]
    if not objective.sees_fraction:
        lines.append(f"law {fit.law.name} knows no split of the tokens: all of them are QAT from scratch")
    return tuple(lines)


def _flags(
    fit: FittedLaw,
    objective: Objective,
    problem: Problem,
    options: list[Option],
    distance: Extrapolation,
    status: PlanStatus,
) -> tuple[str, ...]:
    flags = []
    if fit.draws is None or len(fit.draws) == 0:
        flags.append("no-intervals: the fit has no draws, so there are no intervals; fit again with --bootstrap 1000")
    if status is PlanStatus.UNCERTAIN_FIT:
        flags.append(f"fit: {fit.status.message}")
    flags += [f"fit: {flag}" for flag in fit.flags]
    flags += [f"extrapolation: {sentence}" for sentence in distance.sentences]
    close = [f"{o.plan.bits:g}" for o in options[1:] if o.within_noise]
    if close:
        flags.append(
            f"indistinguishable: {options[0].plan.bits:g} and {', '.join(close)} bits cannot be told apart here"
        )
    plan = options[0].plan
    if objective.sees_fraction and problem.fraction is None and problem.fp_tokens is None:
        if plan.fraction >= 1.0 - 1e-9:
            flags.append("fraction-at-end: the law's loss falls all the way to QAT alone")
        elif plan.fraction <= 1e-9:
            flags.append("fraction-at-end: the law's loss falls all the way to no QAT")
    interval = options[0].fraction_interval
    if interval is not None and not interval[0] <= plan.fraction <= interval[1]:
        flags.append(
            "fraction-uncertain: the draws put the fraction elsewhere than the best fit does, so its interval leaves "
            "out the estimate; trust neither to better than the distance between them"
        )
    if distance.factor is None:
        flags.append("extrapolation: the fit records no ranges, so the distance from its data is unknown")
    return tuple(flags)


def _origin(fit: FittedLaw) -> dict[str, Any]:
    return {
        "law": fit.law.name,
        "rows": fit.rows,
        "status": str(fit.status),
        "n_convention": fit.n_convention,
        "noise": fit.noise,
        "provenance": plain(fit.provenance) or {},
    }
