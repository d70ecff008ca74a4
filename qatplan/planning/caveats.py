"""What a plan rests on and what speaks against relying on it: assumptions and flags."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from qatplan.laws import FittedLaw
from qatplan.planning.candidate import Candidate
from qatplan.planning.objective import Objective
from qatplan.planning.problem import Problem


class Concern(StrEnum):
    """What a flag is about, the weightiest first."""

    NO_INTERVALS = "no-intervals"
    SPLIT_DISPUTED = "split-disputed"
    SPLIT_UNCHECKED = "split-unchecked"
    FRACTION_AT_END = "fraction-at-end"
    FRACTION_UNCERTAIN = "fraction-uncertain"
    INDISTINGUISHABLE = "indistinguishable"
    FIT = "fit"
    EXTRAPOLATION = "extrapolation"
    LOSSES_NEED_A_SWEEP = "losses-need-a-sweep"
    OBJECTIVE_NOT_SAID = "objective-not-said"
    BITS_NOT_CHOSEN = "bits-not-chosen"


@dataclass(frozen=True)
class Flag:
    """One thing to know before relying on a plan; its text is `concern: sentence`."""

    concern: Concern
    sentence: str

    def __str__(self) -> str:
        return f"{self.concern}: {self.sentence}"


NO_INTERVALS: Final = Flag(
    Concern.NO_INTERVALS, "the fit has no draws, so there are no intervals; fit again with --bootstrap 1000"
)


def missing_draws(fit: FittedLaw) -> list[Flag]:
    """The flag of a fit without draws, or nothing."""
    return [NO_INTERVALS] if fit.draws is None or len(fit.draws) == 0 else []


def flags_about(concern: Concern, sentences: Iterable[str]) -> list[Flag]:
    """A flag for each sentence."""
    return [Flag(concern, sentence) for sentence in sentences]


def choice_flags(problem: Problem, objective: Objective, plan: Candidate, close: Sequence[Candidate]) -> list[Flag]:
    """What is open about the choice; `close` are the plans that cannot be told from it."""
    made = []
    if close:
        widths = ", ".join(f"{other.bits:g}" for other in close)
        sentence = f"{plan.bits:g} and {widths} bits cannot be told apart here"
        made.append(Flag(Concern.INDISTINGUISHABLE, sentence))
    if objective.sees_fraction and problem.split_is_free and plan.quantized:
        if plan.fraction >= 1.0 - 1e-9:
            made.append(Flag(Concern.FRACTION_AT_END, "the law's loss falls all the way to QAT alone"))
        elif plan.fraction <= 1e-9:
            made.append(Flag(Concern.FRACTION_AT_END, "the law's loss falls all the way to no QAT"))
    return made


FRACTION_UNCERTAIN: Final = Flag(
    Concern.FRACTION_UNCERTAIN,
    "the draws put the fraction elsewhere than the best fit does, so its interval leaves out the estimate; trust "
    "neither to better than the distance between them",
)
SPLIT_UNCHECKED: Final = Flag(
    Concern.SPLIT_UNCHECKED,
    "no measured curve of loss against the fraction was held against this split; fit fraction-surface to your runs, "
    "and give it as --split",
)
NO_RANGES: Final = Flag(Concern.EXTRAPOLATION, "the fit records no ranges, so the distance from its data is unknown")


def assumptions(fit: FittedLaw, objective: Objective, problem: Problem, plan: Candidate) -> tuple[str, ...]:
    """What a plan takes for granted, in sentences without a full stop."""
    training, serving, layout = problem.training, problem.serving, plan.layout
    form, hardware = serving.form(plan.bits), training.hardware
    shape = layout.source if layout.inferred else f"that of {layout.name}, from {layout.source}"
    slower = "as long" if training.slowdown == 1.0 else f"{training.slowdown:g} times as long"
    lines = [
        f"the law {fit.law.name} holds for runs made like those it was fitted on (quantizer, schedule, data)",
        f"parameters in the law count {'no embeddings' if objective.nonembedding else 'embeddings too'}; "
        f"this model has {plan.n:.4g} of them",
        f"the model's shape is {shape}",
        f"memory holds weights in {form.name} (embeddings at {form.embedding_bits:g} bits), {serving.kv_format} keys "
        f"and values for {serving.batch} x {serving.context:,} tokens, and a workspace for 512 prompt tokens",
        f"training in sequences of {training.sequence:,} tokens on {hardware.name} in {training.dtype} at "
        f"{100 * training.mfu:g} % of its peak ({hardware.source})",
    ]
    if plan.quantized:
        lines.append(f"a QAT token takes {slower} as a full-precision one")
    if plan.quantized and not objective.sees_fraction:
        lines.append(no_split(fit))
    return tuple(lines)


def no_split(fit: FittedLaw) -> str:
    """What is taken for granted with a law of QAT from scratch."""
    return f"law {fit.law.name} knows no split of the tokens: all of them are QAT from scratch"
