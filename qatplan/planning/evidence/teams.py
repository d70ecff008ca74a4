"""How many QAT tokens teams gave their models, in tokens per parameter byte: what a law's answer is held against."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final


@dataclass(frozen=True, kw_only=True)
class TeamRecipe:
    """The length of the QAT phase in one published recipe, or in a group of them."""

    name: str
    bits: float | None
    """None for recipes of several widths."""
    low: float
    """QAT tokens per parameter byte."""
    high: float
    """The same as `low` for one recipe."""
    source: str
    dated: str
    """Year and month of the source."""

    def qat_tokens(self, params: float, bits: float) -> tuple[float, float]:
        """(fewest, most) QAT tokens of the recipe for a model, at the recipe's own width or else at `bits`."""
        size = params * (self.bits or bits) / 8.0
        return self.low * size, self.high * size

    def as_dict(self, params: float, bits: float) -> dict[str, Any]:
        """For JSON, with the QAT tokens for a model."""
        return {**asdict(self), "qat_tokens": [round(tokens) for tokens in self.qat_tokens(params, bits)]}


_PARETOQ: Final = "arXiv 2502.02631"
RECIPES: Final = (
    TeamRecipe(name="ParetoQ, 1B", bits=2.0, low=101.0, high=101.0, source=_PARETOQ, dated="2025-02"),
    TeamRecipe(name="ParetoQ, 1B", bits=4.0, low=17.0, high=17.0, source=_PARETOQ, dated="2025-02"),
    TeamRecipe(
        name="distillation", bits=None, low=0.01, high=1.4, dated="2026-11",
        source="our survey, not listed singly",
    ),
)  # fmt: skip
"""Longest first; the last are distillations after post-training, whose objective no law here describes."""
