"""Advice without a sweep: the published fraction law gives the split, and nothing else."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from qatplan.errors import UsageError
from qatplan.laws import FittedLaw, Inputs, QatFraction
from qatplan.laws.qat_fraction import PUBLISHED_MAE, PUBLISHED_RANGES
from qatplan.models.costs import Cost
from qatplan.models.layout import Layout
from qatplan.planning import caveats
from qatplan.planning.caveats import Concern, Flag
from qatplan.planning.evidence.published import balanced_tokens
from qatplan.planning.evidence.teams import RECIPES, TeamRecipe
from qatplan.planning.intervals import Interval, draws_of, theta
from qatplan.planning.problem import Problem
from qatplan.planning.recommend import default_bits
from qatplan.planning.request import FULL_PRECISION
from qatplan.planning.trust import Extrapolation, PlanStatus, extrapolation, status_of

_CLASSIC = "the classic schedule: full precision with its own cooldown, then QAT; quantizers and data like the paper's"
OBJECTIVE: Final = (
    "say which QAT is meant: this law is about QAT with the pretraining loss, and none here covers distillation after "
    "post-training (arXiv 2601.20088)"
)


@dataclass(frozen=True, kw_only=True)
class Split:
    """The fraction law's answer at one bit width."""

    bits: float
    params: float
    params_in_law: float
    tokens: float
    """Of both phases."""
    fraction: float
    fraction_interval: Interval | None
    memory_bytes: int
    cost: Cost
    tokens_per_parameter_byte: float
    balanced_qat_tokens: float | None
    """QAT tokens for which those of a given model are the best share of all; None without a given model."""
    binding: tuple[str, ...]

    @property
    def qat_per_byte(self) -> float:
        """QAT tokens per parameter byte."""
        return self.tokens_per_parameter_byte * self.fraction

    def as_dict(self) -> dict[str, Any]:
        """For JSON; losses are null because the law gives none."""
        return {
            "bits": self.bits,
            "params": round(self.params),
            "params_in_law": round(self.params_in_law),
            "tokens": round(self.tokens),
            "fp_tokens": round(self.tokens * (1.0 - self.fraction)),
            "qat_tokens": round(self.tokens * self.fraction),
            "fraction": self.fraction,
            "fraction_interval": self.fraction_interval,
            "loss": None,
            "loss_interval": None,
            "memory_bytes": self.memory_bytes,
            "tokens_per_parameter_byte": self.tokens_per_parameter_byte,
            "binding": list(self.binding),
            "cost": self.cost.as_dict(),
        }


@dataclass(frozen=True, kw_only=True)
class FractionAdvice:
    """The split at each bit width; the law cannot choose among them."""

    problem: Problem
    choice: Split
    alternatives: tuple[Split, ...]
    excluded: dict[str, str]
    law: str
    a: float
    level: float
    assumptions: tuple[str, ...]
    flags: tuple[Flag, ...]
    extrapolation: Extrapolation | None = None
    """None for the published law, whose runs are not ours."""
    status: PlanStatus = PlanStatus.FRACTION_ONLY
    remarks: tuple[str, ...] = ()
    """How the problem was completed from the runs."""

    @property
    def recipes(self) -> tuple[TeamRecipe, ...]:
        """What teams published, beside the answer for a given model; empty without one."""
        return RECIPES if self.problem.continues else ()

    @property
    def options(self) -> tuple[Split, ...]:
        """The split that is shown first, and the others."""
        return (self.choice, *self.alternatives)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of `qatplan recommend` with the fraction law."""
        return {
            "choice": self.choice.as_dict(),
            "alternatives": [split.as_dict() for split in self.alternatives],
            "excluded": self.excluded,
            "law": self.law,
            "a": self.a,
            "assumptions": list(self.assumptions),
            "extrapolation": None if self.extrapolation is None else asdict(self.extrapolation),
            "status": str(self.status),
            "status_message": self.status.message,
            "flags": [str(flag) for flag in self.flags],
            "level": self.level,
            **({"given_model": self._given()} if self.problem.continues else {}),
        }

    def _given(self) -> dict[str, Any]:
        choice = self.choice
        return {
            "fp_tokens": self.problem.budgets.fp_tokens,
            "balanced_qat_tokens": choice.balanced_qat_tokens,
            "qat_tokens_per_parameter_byte": choice.qat_per_byte,
            "question": OBJECTIVE,
            "published_recipes": [recipe.as_dict(choice.params) for recipe in self.recipes],
        }


def advise(problem: Problem, fit: FittedLaw | None = None) -> FractionAdvice:
    """The optimal fraction from tokens per parameter byte, by the published law or by a fit of it.

    The choice shown is the first width asked for that has a split, or 4 bits where none was asked for: the law gives no
    loss, so it cannot rank them. Raises UsageError where no number of parameters follows from the budgets, for what the
    law cannot use, and where no width has a split.
    """
    law = QatFraction() if fit is None else fit.law
    if not isinstance(law, QatFraction):
        raise UsageError(f"law {law.name} is not the fraction law.")
    if problem.tolerance is not None:
        raise UsageError("tolerance is in nats per token, and qat-fraction gives no loss; leave it out.")
    if fit is None:
        for name in ("level", "extrapolation_limit"):
            if getattr(problem, name) != Problem.__dataclass_fields__[name].default:
                what = f"{name.replace('_', ' ')} has no meaning for the published qat-fraction"
                raise UsageError(f"{what}, which has neither draws nor runs of ours; leave it out.")
    if problem.budgets.target_loss is not None:
        raise UsageError("a target loss needs a law of the loss: fit qat-loss on a sweep; qat-fraction gives no loss.")
    if problem.budgets.fraction is not None:
        raise UsageError("the fraction law finds the fraction of a free split; leave out fraction.")
    splits, excluded = [], {}
    for bits in dict.fromkeys(problem.bits or default_bits(fit)):
        try:
            if bits >= FULL_PRECISION:
                raise UsageError(f"bits is {bits:g}, which is full precision without a QAT phase; give bits below 16.")
            splits.append(_split(problem, law, fit, bits))
        except UsageError as error:
            excluded[f"{bits:g}"] = str(error)
    if not splits:
        raise UsageError(next(iter(excluded.values())))
    preferred = problem.bits or (4.0,)
    choice = next((split for split in splits if split.bits in preferred), splits[0])
    others = tuple(split for split in splits if split is not choice)
    sweep = "the fraction law gives no loss; run `qatplan sweep` and `qatplan fit --law qat-loss`"
    flags = [Flag(Concern.LOSSES_NEED_A_SWEEP, sweep)]
    if others:
        sentence = f"{choice.bits:g} bits are shown first, not chosen; the fraction law ranks none"
        flags.append(Flag(Concern.BITS_NOT_CHOSEN, sentence))
    if problem.continues:
        flags.append(Flag(Concern.OBJECTIVE_NOT_SAID, OBJECTIVE))
    if fit is None:
        low, high = PUBLISHED_MAE
        basis = f"published a = {law.a:g} (arXiv 2509.22935), mean absolute error {low:g} to {high:g} on the fraction"
    else:
        basis = f"a = {law.a:g}, fitted on {fit.rows} rows"
        flags += caveats.missing_draws(fit)
    layout = problem.layout_of(choice.params)
    nonembedding = fit is not None and fit.n_convention == "nonembedding"
    counted = "no embeddings" if nonembedding else "embeddings too (the paper does not say which)"
    alike = _CLASSIC if fit is None else "runs made like those the law was fitted on"
    distance, status = None, PlanStatus.FRACTION_ONLY
    at = Inputs.of(n=choice.params_in_law, d_total=choice.tokens, bits=choice.bits, fraction=choice.fraction)
    if fit is None:
        measured = FittedLaw(law=law, ranges=PUBLISHED_RANGES).extrapolation(at)
        flags += caveats.flags_about(Concern.EXTRAPOLATION, measured)
    else:
        distance = extrapolation(fit, at, limit=problem.extrapolation_limit)
        flags += caveats.flags_about(Concern.EXTRAPOLATION, distance.sentences)
        if (judged := status_of(fit, distance)) is not PlanStatus.GOOD:
            status = judged
    shape = layout.source if layout.inferred else f"that of {layout.name}"
    return FractionAdvice(
        problem=problem,
        choice=choice,
        alternatives=others,
        excluded=excluded,
        law=law.name,
        a=law.a,
        level=problem.level,
        assumptions=(basis, f"parameters in the law count {counted}", f"the model's shape is {shape}", alike),
        flags=tuple(flags),
        extrapolation=distance,
        status=status,
    )


def _split(problem: Problem, law: QatFraction, fit: FittedLaw | None, bits: float) -> Split:
    params = problem.given_params()
    if params is None:
        params = problem.largest_params(bits)
        if not math.isfinite(params):
            raise UsageError("the fraction law cannot choose a size; give params, a model or memory.")
    layout, given = problem.layout_of(params), problem.budgets.fp_tokens
    problem.require_memory(params, bits)
    memory = problem.serving.memory(layout, bits).total_bytes
    n = layout.nonembedding if fit is not None and fit.n_convention == "nonembedding" else layout.parameters
    size, balanced = n * bits / 8.0, None
    if given is None:
        tokens, fraction = _free(problem, law, layout, size)
        d_fp, d_qat = tokens * (1.0 - fraction), tokens * fraction
    else:
        total = balanced_tokens(law, given, size)
        law.fraction(total / size)  # refuses where the law has no value
        balanced = total - given
        # The given tokens are spent: budgets pay for QAT alone.
        d_fp, d_qat = 0.0, min([balanced, *problem.token_limits(layout, 1.0).values()])
        tokens = given + d_qat
        fraction = d_qat / tokens
    s_total = tokens / size
    draws, interval = None if fit is None else draws_of(fit, problem.level), None
    if draws is not None and given is None:
        low, high = draws.interval(np.exp(-theta(draws)[:, 0] / math.log(s_total)))
        interval = float(low), float(high)
    return Split(
        bits=bits,
        params=layout.parameters,
        params_in_law=n,
        tokens=tokens,
        fraction=fraction,
        fraction_interval=interval,
        memory_bytes=memory,
        balanced_qat_tokens=balanced,
        cost=problem.training.cost(layout, d_fp=d_fp, d_qat=d_qat),
        tokens_per_parameter_byte=s_total,
        binding=problem.binding(layout, memory, d_fp + d_qat, d_qat / (d_fp + d_qat)),
    )


def _free(problem: Problem, law: QatFraction, layout: Layout, size: float) -> tuple[float, float]:
    """(tokens that the budgets pay, their QAT fraction) at so many parameter bytes."""
    fraction, tokens = 0.5, 0.0
    # A QAT token may cost more device time, so tokens and fraction depend on each other a little; this settles at once.
    for _ in range(50):
        before, tokens = tokens, min(problem.token_limits(layout, fraction).values())
        if abs(tokens - before) <= 1e-12 * tokens:
            break
        fraction = float(law.fraction(tokens / size))
    return tokens, fraction
