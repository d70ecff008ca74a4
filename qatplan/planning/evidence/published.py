"""The published fraction law in place of a fit that is asked too far from what it was fitted on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from qatplan.laws import QatFraction
from qatplan.planning.candidate import Candidate
from qatplan.planning.numeric import MOST_TOKENS, root_of_falling


@dataclass(frozen=True, kw_only=True)
class PublishedSplit:
    """The split of one plan's tokens by f = exp(-a / ln S_total) with the published a (arXiv 2509.22935)."""

    bits: float
    params: float
    memory_bytes: int
    tokens: float
    qat_tokens: float
    fraction: float
    tokens_per_parameter_byte: float


def published_split(plan: Candidate, *, continues: bool, most: float = math.inf) -> PublishedSplit | None:
    """The published split of a plan's tokens; for a given full-precision model the QAT tokens that make its own tokens
    the best share, at most the `most` that the budget pays. None where S_total <= 1, which the law does not cover.
    """
    law, size = QatFraction(), plan.n * plan.bits / 8.0
    tokens = min(balanced_tokens(law, plan.d_fp, size), plan.d_fp + most) if continues else plan.tokens
    if tokens <= size:
        return None
    fraction = 1.0 - plan.d_fp / tokens if continues else float(law.fraction(tokens / size))
    return PublishedSplit(
        bits=plan.bits,
        params=plan.layout.parameters,
        memory_bytes=plan.memory_bytes,
        tokens=tokens,
        qat_tokens=tokens * fraction,
        fraction=fraction,
        tokens_per_parameter_byte=tokens / size,
    )


def balanced_tokens(law: QatFraction, d_fp: float, parameter_bytes: float) -> float:
    """Tokens of both phases of which `d_fp`, those of a given model, are the best share in full precision.

    `d_fp` itself where it is at most one token per parameter byte and the law has no value.
    """

    def left(log_tokens: float) -> float:
        """Falls through 0 where the full-precision tokens are what the law leaves to them."""
        s = math.exp(log_tokens) / parameter_bytes
        share = float(law.fraction(s)) if s > 1 else 0.0
        return 1.0 - math.exp(log_tokens) * (1.0 - share) / d_fp

    return math.exp(root_of_falling(left, 0.0, math.log(d_fp), math.log(MOST_TOKENS)))
