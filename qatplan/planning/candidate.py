"""One feasible plan, with everything that follows from its numbers."""

from __future__ import annotations

from dataclasses import dataclass

from qatplan.errors import UsageError
from qatplan.models.layout import Layout
from qatplan.planning.objective import Objective
from qatplan.planning.problem import Problem


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One feasible plan."""

    bits: float
    layout: Layout
    n: float
    """Parameters as the law counts them."""
    d_fp: float
    d_qat: float
    fraction: float
    loss: float
    """Predicted, nats per token."""
    flops: float
    """Of the training that is still to be paid: both phases, or QAT alone when the full-precision model is given."""
    memory_bytes: float
    binding: tuple[str, ...]
    """Names of the budgets that are used up."""

    @property
    def tokens(self) -> float:
        """Tokens of both phases."""
        return self.d_fp + self.d_qat

    @property
    def s_total(self) -> float:
        """Tokens per parameter byte, parameters as the law counts them."""
        return self.tokens / (self.n * self.bits / 8.0)


def candidate_at(
    objective: Objective, problem: Problem, bits: float, layout: Layout, *, d_fp: float, d_qat: float
) -> Candidate:
    """A plan with everything that follows from its numbers. Raises UsageError where the law has no value."""
    n, tokens = objective.n(layout), d_fp + d_qat
    fraction = d_qat / tokens
    if reason := objective.outside(n, d_fp, d_qat, bits):
        raise UsageError(f"the law {objective.law.name} has no value at {bits:g} bits: {reason}.")
    paid = d_qat if problem.fp_tokens is not None else tokens
    memory = problem.memory_of(layout, bits)
    binding = ["memory"] if problem.memory is not None and memory >= problem.memory - 64 else []
    # When the full-precision model is given, every paid token is a QAT token.
    limits = problem.token_limits(layout, 1.0 if problem.fp_tokens is not None else fraction)
    binding += [name for name, limit in limits.items() if paid >= limit * (1 - 1e-9)]
    return Candidate(
        bits=bits,
        layout=layout,
        n=n,
        d_fp=d_fp,
        d_qat=d_qat,
        fraction=fraction,
        loss=float(objective.loss_of_phases(n, d_fp, d_qat, bits)[0]),
        flops=paid * problem.flops_per_token(layout),
        memory_bytes=memory,
        binding=tuple(binding),
    )
