"""The post-training methods by name, with every constant that decides their numbers. Imports no torch.

The constants are part of a run's id, and its row says them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """AdaRound, block by block."""

    calibration_tokens: int = 16384
    """Training tokens that follow those the model was trained on."""
    iterations: int = 1000
    """Steps of Adam per block."""
    batch_tokens: int = 1024
    """Calibration tokens per step."""
    learning_rate: float = 1e-2
    regulariser: float = 0.01
    """Weight lambda of the undecided weights (METHODS of AdaRound's public code)."""
    free: float = 0.2
    """Share of the steps before the regulariser sets in."""
    first_exponent: float = 20.0
    last_exponent: float = 2.0
    """b, linear in the steps after that."""


@dataclass(frozen=True, kw_only=True)
class MixedWidths:
    """More bits for the important output neurons, fewer for as many unimportant ones."""

    calibration_tokens: int = 16384
    share: float = 0.25
    """Share of the neurons that get one bit more, and of those that get one bit less."""


RECIPES: Mapping[str, Reconstruction | MixedWidths | None] = {
    "rtn": None,
    "adaround": Reconstruction(),
    "importance": MixedWidths(),
}
POST_TRAINING = tuple(RECIPES)


def described(method: str) -> str | None:
    """The constants of a method as `name value` pairs; None where it has none."""
    recipe = RECIPES[method]
    if recipe is None:
        return None
    return ", ".join(f"{field.name} {getattr(recipe, field.name):g}" for field in fields(recipe))
