"""The loss that a plan is judged by: a fitted law at the best split of the tokens, for arrays of plans at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from qatplan.errors import UsageError
from qatplan.laws import FittedLaw, Inputs, Law, optimal_fraction
from qatplan.laws.inputs import Floats
from qatplan.models.layout import Layout
from qatplan.planning.numeric import first_below
from qatplan.planning.request import FULL_PRECISION


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A law of the loss, and how it is asked."""

    law: Law
    nonembedding: bool = False
    """True when the law counts parameters without embeddings."""
    split: FittedLaw | None = None
    """A fitted law of the fraction that answers for the split, where it has a value."""
    least_fraction: float = 1e-3
    """Smallest QAT fraction that was fitted."""

    @staticmethod
    def of(fit: FittedLaw, split: FittedLaw | None = None) -> Objective:
        """The objective of a fit. Raises UsageError for a law that gives no loss or knows no bit width."""
        law = fit.law
        if law.quantity != "loss":
            raise UsageError(
                f"law {law.name} gives a fraction and no loss; give a fit of qat-loss, and this one as split."
            )
        low, high = (float(law.predict(Inputs.of(n=1e8, d_total=1e10, fraction=0.5, bits=b))[0]) for b in (2.0, 4.0))
        if low == high:
            raise UsageError(
                f"this fit of {law.name} is of full-precision runs alone and knows no bit width; qatplan predict gives "
                "its losses without --bits, and planning quantization takes quantized runs or --law qat-fraction alone."
            )
        least = fit.ranges.get("fraction", (1e-3, 1.0))[0]
        return Objective(
            law=law, nonembedding=fit.n_convention == "nonembedding", split=split, least_fraction=least or 1e-3
        )

    @property
    def sees_fraction(self) -> bool:
        """False for laws of QAT from scratch, which know no split of the tokens."""
        return self.law.sees_fraction

    def split_answers(self, bits: float) -> bool:
        """Whether the law of the fraction has a value at a bit width."""
        if self.split is None or bits >= FULL_PRECISION:
            return False
        return not any(self.split.law.outside(Inputs.of(n=1e8, d_total=1e10, fraction=0.5, bits=bits)))

    def n(self, layout: Layout) -> float:
        """Parameters as the law counts them."""
        return layout.nonembedding if self.nonembedding else layout.parameters

    def best(self, n: ArrayLike, d_total: ArrayLike, bits: float) -> tuple[Floats, Floats]:
        """(fraction, loss) at the best split. A law without a split is one of QAT from scratch: fraction 1.

        In full precision there is nothing to split: fraction 0.

        A law of the fraction is not asked beyond the fractions that were measured.
        """
        if bits >= FULL_PRECISION:
            loss = self.loss(n, d_total, bits, 0.0)
            return np.zeros_like(loss), loss
        if self.split_answers(bits) and self.split is not None:
            said = optimal_fraction(self.split.law, n=n, d_total=d_total, bits=bits).fraction
            fraction = np.clip(said, *self.split.ranges.get("fraction", (0.0, 1.0)))
            return fraction, self.loss(n, d_total, bits, fraction)
        if self.sees_fraction:
            optimum = optimal_fraction(self.law, n=n, d_total=d_total, bits=bits)
            return optimum.fraction, optimum.loss
        loss = self.loss(n, d_total, bits, 1.0)
        return np.ones_like(loss), loss

    def loss(self, n: ArrayLike, d_total: ArrayLike, bits: float, fraction: ArrayLike) -> Floats:
        """Loss at given splits; in full precision, whatever the split."""
        if bits >= FULL_PRECISION:
            return self.law.predict(Inputs.of(n=n, d_total=d_total))
        return self.law.predict(Inputs.of(n=n, d_total=d_total, bits=bits, fraction=fraction))

    def loss_of_phases(self, n: ArrayLike, d_fp: ArrayLike, d_qat: ArrayLike, bits: float) -> Floats:
        """Loss for given tokens of the two phases; keeps the smaller phase exact where the other is huge."""
        return self.law.predict(Inputs.of(n=n, d_fp=d_fp, d_qat=d_qat, bits=bits))

    def full_precision(self, n: float, d_total: float) -> float:
        """Loss of a full-precision run."""
        return float(self.law.predict(Inputs.of(n=n, d_total=d_total))[0])

    def log_tokens_at_best(self, n: float, bits: float, loss: float, least: float, most: float) -> float | None:
        """Natural log of the fewest tokens whose best split reaches the loss, between two logs; None where none do."""

        def best(log_tokens: Floats) -> Floats:
            return self.best(n, np.exp(log_tokens), bits)[1]

        return first_below(best, loss, least, most)
