"""A plan as a training recipe: phases in steps of a given batch, the learning rate's shape, and the quantizer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from qatplan.errors import UsageError
from qatplan.planning.recommend import Recommendation
from qatplan.planning.request import require

COOLDOWN = 0.2
"""Share of the full-precision phase that is its cooldown in the classic schedule (arXiv 2509.22935)."""
WARMUP = 0.01
"""Share of a phase spent warming up; the lengths used in the paper are not public, this one is ours."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a training script needs to know of a plan. All lengths are in steps of `batch_tokens` tokens."""

    params: int
    bits: float
    group_size: int | None
    """Weights that share a step; None is one step per output channel."""
    embedding_bits: float
    batch_tokens: int
    sequence: int
    switch_step: int
    """First step with quantized weights; 0 where a full-precision model is given."""
    steps: int
    """Steps in all."""
    given_fp_tokens: float | None
    """Tokens that the given full-precision model has seen; None where it is trained too."""
    schedule: str
    """classic: the full-precision phase has its own cooldown; fused: it has none, and the rate decays in QAT."""
    warmup_steps: int
    cooldown_steps: int
    """At the end of the full-precision phase; 0 when fused."""
    rewarmup_steps: int
    """At the start of QAT."""
    learning_rate: float | None
    """Peak rate of the full-precision phase, if given."""
    qat_learning_rate: float | None
    """Peak rate of the QAT phase, if given."""
    notes: tuple[str, ...]

    @property
    def sequences(self) -> int:
        """Sequences in a batch."""
        return self.batch_tokens // self.sequence

    @property
    def qat_steps(self) -> int:
        """Steps with quantized weights."""
        return self.steps - self.switch_step

    def as_dict(self) -> dict[str, Any]:
        """Plain values by name."""
        return {**asdict(self), "qat_steps": self.qat_steps, "notes": list(self.notes)}


def recipe(
    advice: Recommendation,
    *,
    batch_tokens: float,
    learning_rate: float | None = None,
    qat_learning_rate: float | None = None,
) -> Recipe:
    """The recipe of the recommended plan; a batch is rounded to whole sequences, and that is said.

    Raises UsageError for a batch that is smaller than a sequence or larger than a phase, and for rates that are not
    positive.
    """
    require(learning_rate=learning_rate, qat_learning_rate=qat_learning_rate)
    plan, problem = advice.choice.plan, advice.problem
    sequence, given = problem.training.sequence, problem.budgets.fp_tokens
    if batch_tokens < sequence:
        raise UsageError(f"batch tokens is {batch_tokens:.0f}, but must hold at least one sequence of {sequence}.")
    batch = round(batch_tokens / sequence) * sequence
    switch = 0 if given is not None else round(plan.d_fp / batch)
    quantized = round(plan.d_qat / batch)
    if quantized < 1 or (given is None and switch < 1 and plan.d_fp > 0):
        phases = f"{plan.d_fp:.4g} and {plan.d_qat:.4g} tokens"
        raise UsageError(f"batch tokens is {batch}, but the phases have {phases}; each needs at least one step.")
    fused = advice.fusion.advised and given is None
    notes = [
        "the ratio of the two learning rates and the length of the re-warmup are not public for the paper's runs: tune "
        "them in small runs at this bit width"
    ]
    if learning_rate is None or qat_learning_rate is None:
        notes.append("peak learning rates were not given; set them before training")
    if batch != round(batch_tokens):
        notes.append(f"a batch is {batch // sequence} whole sequences, {batch} tokens")
    if fused:
        notes.append("fused: the optimizer and the learning rate carry over the switch without a cooldown")
    return Recipe(
        params=round(plan.layout.parameters),
        bits=plan.bits,
        group_size=problem.serving.group_size,
        embedding_bits=problem.serving.form(plan.bits).embedding_bits,
        batch_tokens=batch,
        sequence=sequence,
        switch_step=switch,
        steps=switch + quantized,
        given_fp_tokens=given,
        schedule="continuation" if given is not None else "fused" if fused else "classic",
        warmup_steps=_share(WARMUP, switch),
        cooldown_steps=0 if fused else _share(COOLDOWN, switch),
        rewarmup_steps=_share(WARMUP, quantized),
        learning_rate=learning_rate,
        qat_learning_rate=qat_learning_rate,
        notes=tuple(notes),
    )


def _share(share: float, steps: int) -> int:
    return min(max(round(share * steps), 1), steps) if steps else 0
