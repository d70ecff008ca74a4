"""The fraction law: which share of the tokens goes to QAT, from tokens per parameter byte alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qatplan.errors import UsageError
from qatplan.laws.inputs import Floats, Inputs
from qatplan.laws.law import Law, Term, exponent

PUBLISHED_A = 6.7297
"""arXiv 2509.22935."""
PUBLISHED_MAE = (0.07, 0.10)
"""Mean absolute error on the fraction that the paper reports for its own runs."""
PUBLISHED_RANGES = {"n": (86e6, 2.2e9), "d_total": (2.3e9, 1.4e12), "bits": (1.0, 6.0)}
"""Parameters, tokens and bit widths (1, 2, 4 and 6) of the paper's runs, smallest and largest."""


@dataclass(frozen=True, kw_only=True)
class QatFraction(Law):
    """f = exp(ln S - a/ln S) / S, which is exp(-a / ln S), S = S_total tokens per parameter byte (arXiv 2509.22935).

    Undefined at S = 1 and above 1 below it, so S <= 1 is outside its domain.
    """

    a: float = exponent(
        "a", "how late the optimal fraction rises with tokens per parameter byte", (1.0, 20.0), upper=200.0,
        of="s_total", default=PUBLISHED_A,
    )  # fmt: skip

    name: ClassVar[str] = "qat-fraction"
    title: ClassVar[str] = "Optimal QAT fraction"
    formula: ClassVar[str] = "f = exp(-a / ln S_total),  S_total = D_total/(N*bits/8)"
    source: ClassVar[str] = "Dremov et al. 2026, arXiv 2509.22935 (a = 6.7297)"
    evidence: ClassVar[str] = "paper"
    domain: ClassVar[str] = "quantized, S_total > 1"
    quantity: ClassVar[Literal["loss", "fraction"]] = "fraction"

    def fraction(self, s_total: ArrayLike) -> Floats:
        """Optimal QAT fraction at S_total tokens per parameter byte; raises UsageError where S_total <= 1."""
        s = np.asarray(s_total, dtype=np.float64)
        if not np.all(s > 1):
            worst = float(np.min(s)) if not np.any(np.isnan(s)) else float("nan")
            raise UsageError(
                f"S_total = {worst:.4g} tokens per parameter byte is outside the fraction law; it needs S_total > 1"
            )
        result: Floats = np.exp(-self.a / np.log(s))
        return result

    def every_term(self, x: Inputs) -> tuple[Term, ...]:
        """The single term exp(-a / ln S_total); NaN logs outside the domain are left as they are."""
        with np.errstate(divide="ignore", invalid="ignore"):
            column = np.where(x.s_total > 1, -1.0 / np.log(x.s_total), np.nan)
        return (Term(name="fraction", amplitude=None, columns={"a": column}, rows=x.quantized.copy()),)

    def refusals(self, x: Inputs) -> list[tuple[NDArray[np.bool_], str]]:
        """Points for which no fraction is defined."""
        why = "S_total = {:.4g} tokens per parameter byte: the fraction law needs S_total > 1"
        small = np.unique(x.s_total[x.s_total <= 1])
        return [(~x.quantized, "no bit width: the fraction law needs one")] + [
            (x.s_total == s, why.format(s)) for s in small
        ]

    def derived(self) -> dict[str, float]:
        """The fraction at round values of S_total, to compare with the published law."""
        return {f"fraction_at_s_{s:g}": float(np.exp(-self.a / np.log(s))) for s in (10.0, 100.0, 1000.0, 10000.0)}
