"""How many QAT tokens teams gave their models, in tokens per parameter byte: what a law's answer is held against."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final


@dataclass(frozen=True, kw_only=True)
class TeamRecipe:
    """The length of the QAT phase in one published recipe."""

    name: str
    bits: float
    tokens_per_byte: float
    """QAT tokens per parameter byte."""
    source: str
    dated: str
    """Year and month of the source."""

    def qat_tokens(self, params: float) -> float:
        """QAT tokens of the recipe for a model of that size, at the recipe's own width."""
        return self.tokens_per_byte * params * self.bits / 8.0

    def as_dict(self, params: float) -> dict[str, Any]:
        """For JSON, with the QAT tokens for a model."""
        return {**asdict(self), "qat_tokens": round(self.qat_tokens(params))}


_PARETOQ: Final = "arXiv 2502.02631"
RECIPES: Final = (
    TeamRecipe(name="ParetoQ, 1B", bits=2.0, tokens_per_byte=101.0, source=_PARETOQ, dated="2025-02"),
    TeamRecipe(name="ParetoQ, 1B", bits=4.0, tokens_per_byte=17.0, source=_PARETOQ, dated="2025-02"),
)
"""Longest first."""
