"""From budgets to a plan: the best choice over everything that is free, what it beat, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from qatplan.errors import UsageError
from qatplan.laws import FittedLaw
from qatplan.laws.fit_parts import plain
from qatplan.laws.predictor import Predictor
from qatplan.laws.split_interval import split_interval
from qatplan.models.costs import Cost
from qatplan.models.memory import Memory
from qatplan.planning import caveats
from qatplan.planning.candidate import Candidate
from qatplan.planning.caveats import Concern, Flag
from qatplan.planning.comparisons import FullPrecision, Rule, full_precision, rules
from qatplan.planning.evidence import fusion, split_ends
from qatplan.planning.evidence.published import PublishedSplit, published_split
from qatplan.planning.evidence.split import Costs, SplitAdvice, advise, costs, evidence_of
from qatplan.planning.given_model import Continuation, continuation
from qatplan.planning.intervals import Interval, assess, draws_of, loss_intervals, theta
from qatplan.planning.objective import Objective
from qatplan.planning.problem import Problem
from qatplan.planning.solve import solve
from qatplan.planning.trust import Extrapolation, PlanStatus, extrapolation, status_of

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
            "memory_bytes": plan.memory_bytes,
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
    choice: Option
    alternatives: tuple[Option, ...]
    excluded: dict[str, str]
    """Bit widths without a plan, and why."""
    new_run_interval: Interval | None
    """For the loss of one new run of the choice."""
    sensitivity: dict[str, float]
    """Loss at the choice's bit width, nats per token, with twice each budget that is used up."""
    rules: tuple[Rule, ...]
    full_precision: FullPrecision
    continuation: Continuation | None
    fusion: fusion.Fusion
    cost: Cost
    memory: Memory
    extrapolation: Extrapolation
    assumptions: tuple[str, ...]
    flags: tuple[Flag, ...]
    status: PlanStatus
    draws: int
    fit: dict[str, Any]
    """Where the law comes from."""
    bytes_per_token: float | None
    """Of the text that the fit is about; None where its runs do not say."""
    published: tuple[PublishedSplit, ...] = ()
    """What stands in the place of the law's numbers where they are withheld: one split for each bit width."""
    split: SplitAdvice | None = None
    """How far the fraction is known; None without a fit of a fraction law, or where the split was not free."""
    remarks: tuple[str, ...] = ()
    """How the problem was completed from the runs."""

    @property
    def options(self) -> tuple[Option, ...]:
        """The choice and its alternatives."""
        return (self.choice, *self.alternatives)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of `qatplan recommend`."""
        return {
            "choice": {**self.choice.as_dict(), "new_run_interval": self.new_run_interval},
            "bytes_per_token": self.bytes_per_token,
            "alternatives": [option.as_dict() for option in self.alternatives],
            "excluded": self.excluded,
            "with_twice_the_budget": self.sensitivity,
            "rules": [asdict(rule) for rule in self.rules],
            "full_precision": asdict(self.full_precision),
            "continuation": None if self.continuation is None else asdict(self.continuation),
            "fused_cooldown": asdict(self.fusion),
            "cost": self.cost.as_dict(),
            "memory": self.memory.as_dict(),
            "assumptions": list(self.assumptions),
            "extrapolation": asdict(self.extrapolation),
            "status": str(self.status),
            "status_message": self.status.message,
            "flags": [str(flag) for flag in self.flags],
            "law": self.fit["law"],
            "level": self.problem.level,
            "draws": self.draws,
            "fit": self.fit,
            **({"published_split": [asdict(split) for split in self.published]} if self.published else {}),
            **({} if self.split is None else {"split": self.split.as_dict()}),
        }


def default_bits(fit: FittedLaw | None) -> tuple[float, ...]:
    """Whole bit widths from 1 to 8 within the fitted range; 2, 3, 4 and 8 where no range is known."""
    if fit is None or "bits" not in fit.ranges:
        return (2.0, 3.0, 4.0, 8.0)
    low, high = fit.ranges["bits"]
    return tuple(float(b) for b in range(1, 9) if low <= b <= high) or (float(low),)


def recommend(
    fit: FittedLaw, problem: Problem, *, runs: Sequence[Mapping[str, Any]] = (), split: FittedLaw | None = None
) -> Recommendation:
    """The plan of lowest predicted loss within the budgets, or the cheapest that reaches the target loss.

    The split is optimised continuously; where `split`, a fit of a fraction law, was better on measured curves, it is
    taken from there. `runs` (rows with the columns of `RUN_COLUMNS`) say whether fusing cooldown
    and QAT helps, for which the paper speaks without them, and what both ends of the split cost. Raises UsageError,
    naming the budget that binds, when no bit width has a plan.
    """
    if split is not None and not problem.split_is_free:
        raise UsageError("split chooses the fraction; leave it out where the fraction or fp tokens are given.")
    if split is None and problem.tolerance is not None:
        raise UsageError("tolerance says what is flat on measured curves; give them with split, or leave it out.")
    widths = problem.bits or default_bits(fit)
    problem = replace(problem, bits=widths)
    if split is not None and not fit.law.sees_fraction:
        raise UsageError(f"law {fit.law.name} knows no split of the tokens; leave split out.")
    share = problem.budgets.fraction
    if share is not None and 0.0 < share < 1.0 and not fit.law.sees_fraction:
        raise UsageError(
            f"fraction {share:g} has no meaning for law {fit.law.name}, which knows no split of the tokens; 1 is QAT "
            "from scratch and 0 is rounding after training."
        )
    judged = None if split is None else costs(split, fit)
    objective = Objective.of(fit, split if judged is not None and judged.fraction_law_answers else None)
    plans, excluded = _solved(objective, problem, widths)
    choice = plans[0]
    if not choice.quantized:
        split = None
    draws = draws_of(fit, problem.level)
    options = _options(fit, objective, problem, plans, draws)
    distance = extrapolation(fit, choice.x, limit=problem.extrapolation_limit)
    checked = None
    if split is not None and judged is not None:
        checked = _checked_split(fit, split, judged, problem, choice, draws)
    status = status_of(fit, distance)
    if status is PlanStatus.GOOD and checked is not None and checked.disputed:
        status = PlanStatus.SPLIT_DISPUTED
    return Recommendation(
        problem=problem,
        choice=options[0],
        alternatives=tuple(options[1:]),
        excluded=excluded,
        new_run_interval=loss_intervals(draws, choice.x)[1],
        sensitivity=_sensitivity(objective, problem, choice),
        rules=()
        if problem.continues or not objective.sees_fraction or not choice.quantized
        else rules(replace(objective, split=None), choice, runs=runs, fitted_fractions=fit.ranges.get("fraction")),
        full_precision=full_precision(objective, choice, draws),
        continuation=continuation(objective, choice) if problem.continues else None,
        fusion=fusion.advice(
            objective, choice, fusion.measured_fusion(runs, choice.bits), given_model=problem.continues
        ),
        cost=problem.training.cost(choice.layout, d_fp=0.0 if problem.continues else choice.d_fp, d_qat=choice.d_qat),
        memory=problem.serving.memory(choice.layout, choice.bits),
        extrapolation=distance,
        assumptions=caveats.assumptions(fit, objective, problem, choice),
        flags=_flags(fit, objective, problem, options, distance, checked),
        status=status,
        published=tuple(
            made
            for plan in (plans if distance.withheld and problem.budgets.fraction is None else ())
            if plan.quantized
            if (made := _published(problem, plan)) is not None
        ),
        split=checked,
        draws=0 if draws is None else len(theta(draws)),
        bytes_per_token=fit.bytes_per_token,
        fit={
            "law": fit.law.name,
            "rows": fit.rows,
            "status": str(fit.status),
            "n_convention": fit.n_convention,
            "noise": fit.noise,
            "provenance": plain(fit.provenance) or {},
        },
    )


def _solved(objective: Objective, problem: Problem, widths: Sequence[float]) -> tuple[list[Candidate], dict[str, str]]:
    """(the plan of each bit width, the best first; why the other widths have none)."""
    plans: list[Candidate] = []
    excluded: dict[str, str] = {}
    for bits in dict.fromkeys(widths):
        try:
            plans.append(solve(objective, problem, bits))
        except UsageError as error:
            excluded[f"{bits:g}"] = str(error)
    by_cost = problem.budgets.target_loss is not None
    if not plans:
        # The narrowest width asks least of the memory, the widest most of nothing: its reason is the telling one.
        raise UsageError(list(excluded.values())[-1] if by_cost else excluded[f"{min(widths):g}"])
    plans.sort(key=lambda plan: (plan.flops, plan.loss) if by_cost else (plan.loss, plan.memory_bytes))
    return plans, excluded


def _options(
    fit: FittedLaw, objective: Objective, problem: Problem, plans: list[Candidate], draws: Predictor | None
) -> list[Option]:
    """The plans with what the draws say of them."""
    free_split = problem.split_is_free and objective.sees_fraction and objective.split is None
    doubts = ranks = assess(draws, objective, plans, free_split=free_split)
    judged = plans
    if problem.budgets.target_loss is not None:
        # The width that reaches the target with the fewest FLOPs is the one of lowest loss at those FLOPs, so losses at
        # equal FLOPs say how sure the choice is.
        limited = problem.with_budgets(target_loss=None, flops=plans[0].flops, gpu_hours=None)
        judged = [plans[0], *(solve(objective, limited, plan.bits) for plan in plans[1:])]
        ranks = assess(draws, objective, judged, free_split=free_split)
    options, noise = [], fit.noise if fit.seed_noise is None else fit.seed_noise
    for plan, doubt, at_equal, rank in zip(plans, doubts, judged, ranks, strict=True):
        first, share = plan is plans[0], rank.better_than_best
        apart = abs(math.log(at_equal.loss / plans[0].loss))
        scatter = apart < noise if not first and math.isfinite(noise) else None
        open_in_draws = scatter if share is None else share > 0.5 * (1.0 - problem.level)
        options.append(
            Option(
                plan=plan,
                loss_interval=doubt.loss,
                fraction_interval=_measured_interval(objective, plan, problem.level) or doubt.fraction,
                probability_best=rank.share_best,
                beats_choice=None if first else share,
                within_noise=None if first else open_in_draws,
                within_scatter=scatter,
            )
        )
    return options


def _measured_interval(objective: Objective, plan: Candidate, level: float) -> Interval | None:
    """The interval of the best fraction from measured curves; None where no fraction law answers."""
    split = objective.split
    if split is None or not plan.quantized or not objective.split_answers(plan.bits):
        return None
    evidence, _ = evidence_of(split)
    low, high = split_interval(evidence, plan.x, plan.x.fraction, split.ranges, level=level)
    return float(low[0]), float(high[0])


def _sensitivity(objective: Objective, problem: Problem, choice: Candidate) -> dict[str, float]:
    """The loss with twice of each budget that binds."""
    given, losses = problem.budgets, dict[str, float]()
    for name in choice.binding if given.target_loss is None else ():
        if name != "memory" or problem.size_is_free:
            doubled = problem.with_budgets(**{name: 2.0 * getattr(given, name)})
            losses[name] = solve(objective, doubled, choice.bits).loss
    return losses


def _published(problem: Problem, plan: Candidate) -> PublishedSplit | None:
    most = min(problem.token_limits(plan.layout, 1.0).values(), default=math.inf)
    return published_split(plan, continues=problem.continues, most=most)


def _checked_split(
    fit: FittedLaw, split: FittedLaw, judged: Costs, problem: Problem, choice: Candidate, draws: Predictor | None
) -> SplitAdvice:
    noise = fit.noise if fit.seed_noise is None else fit.seed_noise
    tolerance = problem.tolerance or (noise * choice.loss if math.isfinite(noise) else 0.0)
    vectors = None if draws is None else theta(draws)
    return advise(split, fit, choice.x, judged=judged, level=problem.level, tolerance=tolerance, draws=vectors)


def _flags(
    fit: FittedLaw, objective: Objective, problem: Problem, options: list[Option], distance: Extrapolation,
    split: SplitAdvice | None,
) -> tuple[Flag, ...]:  # fmt: skip
    choice = options[0]
    made = caveats.missing_draws(fit)
    if split is None and problem.split_is_free and objective.sees_fraction and choice.plan.quantized:
        made.append(caveats.SPLIT_UNCHECKED)
    if split is not None and split.disputed and split.other is not None:
        sentence = f"{split.answer.law} and {split.other.law} have intervals of the fraction without a common value"
        made.append(Flag(Concern.SPLIT_DISPUTED, sentence))
    if status_of(fit, distance) is PlanStatus.UNCERTAIN_FIT:
        made.append(Flag(Concern.FIT, fit.status.message))
    made += caveats.flags_about(Concern.FIT, fit.flags) + caveats.flags_about(Concern.EXTRAPOLATION, distance.sentences)
    made += caveats.choice_flags(problem, objective, choice.plan, [o.plan for o in options[1:] if o.within_noise])
    interval = choice.fraction_interval
    if interval is not None and not interval[0] <= choice.plan.fraction <= interval[1]:
        made.append(caveats.FRACTION_UNCERTAIN)
    if distance.factor is None:
        made.append(caveats.NO_RANGES)
    return tuple(made)
