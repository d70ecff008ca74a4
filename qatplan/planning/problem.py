"""A planning problem: what is asked for, and how a model's size becomes bytes, FLOPs and tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property

from qatplan.errors import UsageError
from qatplan.models.costs import Training
from qatplan.models.layout import Layout, infer
from qatplan.planning.numeric import root_of_falling
from qatplan.planning.request import Budgets, Serving, require
from qatplan.units import format_bytes, format_count

_SMALLEST, _LARGEST = 5e3, 1e15
_ITEMS = 8


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Budgets, a model or none, bit widths to choose from, and what memory and cost depend on."""

    budgets: Budgets
    bits: tuple[float, ...] | None = None
    """Bit widths to choose from; None is `recommend.default_bits` of the fit."""
    layout: Layout | None = None
    """The model's totals where its shape is known; gives the parameters too."""
    vocabulary: float | None = None
    """Entries of the embedding table, for a shape inferred from the number of parameters."""
    serving: Serving = field(default_factory=Serving)
    training: Training = field(default_factory=Training)
    level: float = 0.95
    """Of the intervals."""
    tolerance: float | None = None
    """Nats per token that a fraction may cost to be as good as the best; None is what one run scatters."""
    extrapolation_limit: float = 10.0
    """Factor beyond the fitted range from which a plan is not to be trusted."""

    def __post_init__(self) -> None:
        if self.bits is not None and not self.bits:
            raise UsageError("bits is empty; give at least one bit width.")
        for width in self.bits or ():
            require(bits=width)
            self.serving.form(width)
        require(
            vocabulary=self.vocabulary, level=self.level, tolerance=self.tolerance,
            extrapolation_limit=self.extrapolation_limit,
        )  # fmt: skip
        given = self.budgets
        if given.params is not None and self.layout is not None:
            raise UsageError("give params or a model, not both.")
        if not given.bounds_tokens and not self.continues:
            raise UsageError("nothing bounds the tokens; give tokens, flops, gpu hours or a target loss.")
        bounds = (given.memory, given.flops, given.gpu_hours, given.target_loss)
        if self.size_is_free and all(v is None for v in bounds):
            raise UsageError("nothing bounds the model's size; give params, a model, memory, flops or gpu hours.")
        if self.continues and self.size_is_free:
            raise UsageError("fp tokens describe a given model; give its params or the model too.")

    @property
    def continues(self) -> bool:
        """True for QAT of a given full-precision model, whose tokens are spent."""
        return self.budgets.fp_tokens is not None

    @property
    def size_is_free(self) -> bool:
        """True when the number of parameters is to be chosen."""
        return self.budgets.params is None and self.layout is None

    @property
    def split_is_free(self) -> bool:
        """True when the QAT fraction is to be chosen."""
        return self.budgets.fraction is None and not self.continues

    def with_budgets(self, **changes: float | None) -> Problem:
        """The same problem under other budgets."""
        return replace(self, budgets=replace(self.budgets, **changes))

    def layout_of(self, params: float) -> Layout:
        """Totals of a model of that many parameters."""
        return self.layout if self.layout is not None else infer(params, vocabulary=self.vocabulary)

    def memory_of(self, layout: Layout, bits: float) -> float:
        """Bytes in all at inference, as a real number that grows smoothly with the parameters."""
        return self.serving.bytes_of(layout, bits)

    def given_params(self) -> float | None:
        """The number of parameters if it is given."""
        return self.layout.parameters if self.layout is not None else self.budgets.params

    def require_memory(self, params: float, bits: float) -> None:
        """Raise UsageError where that many parameters need more memory than is allowed."""
        allowed, needed = self.budgets.memory, self.serving.memory(self.layout_of(params), bits).total_bytes
        if allowed is not None and needed > allowed:
            raise UsageError(
                f"memory binds at {bits:g} bits: {format_count(params)} parameters need {format_bytes(needed)} with a "
                f"context of {self.serving.context:,} tokens, and {format_bytes(allowed)} are allowed."
            )

    def require_tokens(self, layout: Layout, bits: float, tokens: float, fraction: float) -> None:
        """Raise UsageError where a budget does not pay for the tokens that the target loss takes."""
        for name, limit in self.token_limits(layout, fraction).items():
            if tokens > limit * (1 + 1e-9):
                kind = "QAT tokens" if self.continues else "tokens"
                raise UsageError(
                    f"{name.replace('_', ' ')} binds at {bits:g} bits: the target loss {self.budgets.target_loss:g} "
                    f"needs {format_count(tokens)} {kind} with {format_count(layout.parameters)} parameters, and the "
                    f"budget pays for {format_count(limit)}."
                )

    def largest_params(self, bits: float) -> float:
        """Largest number of parameters that fits the memory at this bit width; infinity without a memory budget.

        Raises UsageError when not even the smallest model fits.
        """
        memory = self.budgets.memory
        if memory is None:
            return math.inf
        # Whole bytes: each item of the memory is rounded up.
        budget = memory - _ITEMS
        low, high = self._smallest_params, _LARGEST

        def needed(params: float) -> float:
            return self.memory_of(self.layout_of(params), bits)

        if needed(low) > budget:
            raise UsageError(
                f"memory {format_bytes(memory)} is too small for any model at {bits:g} bits: even {format_count(low)} "
                f"parameters need {format_bytes(needed(low))} with a context of {self.serving.context:,} tokens."
            )
        if needed(high) <= budget:
            return high
        ends = math.log(low), math.log(high)
        found = math.exp(root_of_falling(lambda size: -math.log(needed(math.exp(size))), -math.log(budget), *ends))
        # The root may lie above the budget by rounding.
        while needed(found) > budget:
            found *= 1.0 - 1e-13
        return max(found, low)

    @cached_property
    def _smallest_params(self) -> float:
        """Where inferred shapes begin: below it a model has no room for a layer."""
        low, high, middle = _SMALLEST, _LARGEST, _SMALLEST
        for _ in range(101):
            try:
                infer(middle, vocabulary=self.vocabulary)
                high = middle
            except UsageError:
                low = middle
            middle = math.sqrt(low * high)
        return high

    def params_range(self, bits: float) -> tuple[float, float]:
        """(smallest, largest) number of parameters to search at this bit width."""
        given = self.given_params()
        if given is not None:
            return given, given
        return self._smallest_params, min(self.largest_params(bits), _LARGEST)

    def token_limits(self, layout: Layout, fraction: float) -> dict[str, float]:
        """Largest number of tokens that each budget allows at this split, by the budget's name."""
        limits: dict[str, float] = {}
        given, per_token = self.budgets, self.training.flops_per_token(layout)
        if given.tokens is not None:
            limits["tokens"] = given.tokens
        if given.flops is not None:
            limits["flops"] = given.flops / per_token
        if given.gpu_hours is not None:
            slowdown = 1.0 + fraction * (self.training.slowdown - 1.0)
            limits["gpu_hours"] = given.gpu_hours * self.training.flops_per_hour / (per_token * slowdown)
        return limits

    def binding(self, layout: Layout, memory: float, tokens: float, fraction: float) -> tuple[str, ...]:
        """Names of the budgets that a plan uses up, given its bytes, the tokens that it pays and the QAT share."""
        limit = self.budgets.memory
        used = ["memory"] if limit is not None and memory >= limit - 64 else []
        limits = self.token_limits(layout, fraction)
        return (*used, *(name for name, most in limits.items() if tokens >= most * (1 - 1e-9)))
