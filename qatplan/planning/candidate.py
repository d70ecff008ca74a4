"""One feasible plan, with everything that follows from its numbers."""

from __future__ import annotations

from dataclasses import dataclass

from qatplan.errors import UsageError
from qatplan.laws import Inputs
from qatplan.models.layout import Layout
from qatplan.planning.objective import Objective
from qatplan.planning.problem import Problem
from qatplan.planning.request import FULL_PRECISION


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One feasible plan."""

    bits: float
    layout: Layout
    n: float
    """Parameters as the law counts them."""
    d_fp: float
    d_qat: float
    x: Inputs
    """The same as one point of the law."""
    loss: float
    """Predicted, nats per token."""
    flops: float
    """Of the training that is still to be paid: both phases, or QAT alone when the full-precision model is given."""
    memory_bytes: int
    """In all at inference, each item in whole bytes."""
    binding: tuple[str, ...]
    """Names of the budgets that are used up."""

    @property
    def tokens(self) -> float:
        """Tokens of both phases."""
        return self.d_fp + self.d_qat

    @property
    def quantized(self) -> bool:
        """False for a plan in full precision."""
        return self.bits < FULL_PRECISION

    @property
    def fraction(self) -> float:
        """Share of QAT in them."""
        return self.d_qat / self.tokens

    @property
    def s_total(self) -> float:
        """Tokens per parameter byte, parameters as the law counts them."""
        return self.tokens / (self.n * self.bits / 8.0)


def candidate_at(
    objective: Objective, problem: Problem, bits: float, layout: Layout, *, d_fp: float, d_qat: float
) -> Candidate:
    """A plan with everything that follows from its numbers. Raises UsageError where the law has no value."""
    n, tokens = objective.n(layout), d_fp + d_qat
    x = Inputs.of(n=n, d_fp=d_fp, d_qat=d_qat, bits=bits if bits < FULL_PRECISION else None)
    if reason := objective.law.outside(x)[0]:
        raise UsageError(f"the law {objective.law.name} has no value at {bits:g} bits: {reason}.")
    # When the full-precision model is given, every paid token is a QAT token.
    paid, share = (d_qat, 1.0) if problem.continues else (tokens, d_qat / tokens)
    memory = problem.serving.memory(layout, bits).total_bytes
    return Candidate(
        bits=bits,
        layout=layout,
        n=n,
        d_fp=d_fp,
        d_qat=d_qat,
        x=x,
        loss=float(objective.law.predict(x)[0]),
        flops=paid * problem.training.flops_per_token(layout),
        memory_bytes=memory,
        binding=problem.binding(layout, memory, paid, share),
    )
