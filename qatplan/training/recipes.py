"""The post-training methods by name, with every constant that decides their numbers. Imports no torch.

The constants are part of a run's id, and its row says them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

CALIBRATION_TOKENS = 16384
"""128 sequences of 128 tokens, as many sequences as GPTQ takes (arXiv 2210.17323). The stream of a decoder with 100
million parameters (width 768) over them is 50 MB."""


@dataclass(frozen=True, kw_only=True)
class AdaRound:
    """AdaRound, layer by layer.

    lambda, the free share and the exponents are those of AdaRound's public code. Iterations, batch and learning rate
    are ours, for seconds on a small model instead of that code's 10,000 iterations; docs/post-training.md has what
    others reach.
    """

    calibration_tokens: int = CALIBRATION_TOKENS
    iterations: int = 500
    """Steps of Adam per layer."""
    batch_tokens: int = 512
    """Calibration tokens per step."""
    learning_rate: float = 2e-2
    regulariser: float = 0.01
    """lambda, the weight of what is undecided beside the squared error of a token's output."""
    free: float = 0.2
    """Share of the steps before the regulariser sets in."""
    first_exponent: float = 20.0
    last_exponent: float = 2.0
    """b goes from the first to the last, linear in the steps after that."""

    @property
    def tokens(self) -> int:
        """Training tokens that take about as long: a step trains one layer, and there are as many steps per layer."""
        return self.iterations * self.batch_tokens + self.calibration_tokens


@dataclass(frozen=True, kw_only=True)
class MixedWidths:
    """More bits for the important output neurons, fewer for as many unimportant ones: our reconstruction [open]."""

    calibration_tokens: int = CALIBRATION_TOKENS
    share: float = 0.25
    """Share of the neurons that get one bit more, and of those that get one bit less (docs/post-training.md)."""

    @property
    def tokens(self) -> int:
        """Training tokens that take about as long: one gradient of the calibration text."""
        return self.calibration_tokens


RECIPES: dict[str, AdaRound | MixedWidths | None] = {"rtn": None, "adaround": AdaRound(), "importance": MixedWidths()}
POST_TRAINING = tuple(RECIPES)


def described(method: str) -> str | None:
    """The constants of a method as `name value` pairs; None where it has none."""
    recipe = RECIPES[method]
    if recipe is None:
        return None
    return ", ".join(f"{field.name} {getattr(recipe, field.name):g}" for field in fields(recipe))
