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

    def share(tokens: float) -> float:
        return float(law.fraction(tokens / size)) if tokens > size else 0.0

    tokens = plan.tokens
    if continues:

        def missing(log_tokens: float) -> float:
            """Falls through 0 where the full-precision tokens are what the law leaves to them."""
            total = math.exp(log_tokens)
            return total * (1.0 - share(total)) / plan.d_fp - 1.0

        start = math.log(plan.d_fp)
        tokens = math.exp(root_of_falling(lambda t: -missing(t), 0.0, start, math.log(MOST_TOKENS)))
        tokens = min(tokens, plan.d_fp + most)
    if tokens <= size:
        return None
    fraction = 1.0 - plan.d_fp / tokens if continues else share(tokens)
    return PublishedSplit(
        bits=plan.bits,
        params=plan.layout.parameters,
        memory_bytes=plan.memory_bytes,
        tokens=tokens,
        qat_tokens=tokens * fraction,
        fraction=fraction,
        tokens_per_parameter_byte=tokens / size,
    )
