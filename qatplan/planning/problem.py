"""What the planner is asked: the constraints, what is left free, and how model size becomes bytes and FLOPs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from qatplan.errors import UsageError
from qatplan.models.costs import (
    DEFAULT_DEVICE,
    DEFAULT_SEQUENCE,
    DEVICES,
    Rates,
    flops_per_token,
)
from qatplan.models.formats import Uniform, own
from qatplan.models.layout import Layout, infer
from qatplan.models.memory import kv_bits, total_bytes
from qatplan.planning.numeric import root_of_falling
from qatplan.units import format_bytes, format_count

_SMALLEST, _LARGEST = 5e3, 1e15
_ITEMS = 8


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Budgets are upper bounds; `params`, `layout`, `fraction`, `fp_tokens` are exact; None leaves a quantity free."""

    bits: tuple[float, ...]
    """Bit widths to choose from."""
    params: float | None = None
    """Parameters in all, embeddings included."""
    layout: Layout | None = None
    """The model's totals where its shape is known; gives the parameters too."""
    vocabulary: float | None = None
    """Entries of the embedding table, for a shape inferred from the number of parameters."""
    tokens: float | None = None
    """Training tokens; with `fp_tokens`, tokens of the QAT phase alone."""
    fraction: float | None = None
    """Share of the tokens in QAT, if it must not be chosen."""
    flops: float | None = None
    """Training FLOPs; with `fp_tokens`, of the QAT phase alone."""
    gpu_hours: float | None = None
    """Device hours; with `fp_tokens`, of the QAT phase alone."""
    memory: float | None = None
    """Bytes for weights, KV cache and workspace."""
    target_loss: float | None = None
    """Nats per token to reach with the fewest FLOPs."""
    fp_tokens: float | None = None
    """Tokens that a given full-precision model has already seen (continuation)."""
    context: int = 8192
    batch: int = 1
    kv_format: str = "f16"
    group_size: int | None = None
    table_bits: float | None = None
    """Bits of embedding table and head; None is max(bits, 4)."""
    sequence: int = DEFAULT_SEQUENCE
    """Tokens per training sequence."""
    rates: Rates = field(default_factory=lambda: Rates(device=DEVICES[DEFAULT_DEVICE]))
    level: float = 0.95
    """Of the intervals."""
    extrapolation_limit: float = 10.0
    """Factor beyond the fitted range from which a plan is not to be trusted."""

    def __post_init__(self) -> None:
        if not self.bits:
            raise UsageError("bits is empty; give at least one bit width.")
        for width in self.bits:
            if not 1 <= width <= 16:
                raise UsageError(f"bits has {width:g}, but a bit width must lie between 1 and 16.")
        for name in ("params", "tokens", "flops", "gpu_hours", "memory", "target_loss", "fp_tokens", "vocabulary"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UsageError(f"{name.replace('_', ' ')} is {value:g}, but it must be a finite number above 0.")
        if self.fraction is not None and not 0 <= self.fraction <= 1:
            raise UsageError(f"fraction is {self.fraction:g}, but it must lie between 0 and 1.")
        for name in ("context", "batch", "sequence"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, but it must be at least 1.")
        if not 0 < self.level < 1:
            raise UsageError(f"level is {self.level:g}, but it must lie between 0 and 1.")
        if not self.extrapolation_limit >= 1:
            raise UsageError(f"extrapolation limit is {self.extrapolation_limit:g}, but it must be at least 1.")
        if self.params is not None and self.layout is not None:
            raise UsageError("give params or a model, not both.")
        if self.fp_tokens is not None and self.fraction is not None:
            raise UsageError("give fp tokens or fraction, not both: with a given model the tokens set the split.")
        kv_bits(self.kv_format)
        for width in self.bits:
            self.form(width)
        self._require_bounds()

    def _require_bounds(self) -> None:
        bounded_tokens = any(v is not None for v in (self.tokens, self.flops, self.gpu_hours, self.target_loss))
        if not bounded_tokens and self.fp_tokens is None:
            raise UsageError("nothing bounds the tokens; give tokens, flops, gpu hours or a target loss.")
        bounded_size = any(v is not None for v in (self.params, self.layout, self.memory, self.flops, self.gpu_hours))
        if not bounded_size and self.target_loss is None:
            raise UsageError("nothing bounds the model's size; give params, a model, memory, flops or gpu hours.")
        if self.fp_tokens is not None and self.params is None and self.layout is None:
            raise UsageError("fp tokens describe a given model; give its params or the model too.")

    @property
    def size_is_free(self) -> bool:
        """True when the number of parameters is to be chosen."""
        return self.params is None and self.layout is None

    def form(self, bits: float) -> Uniform:
        """Storage format of a plan at this bit width."""
        return own(bits, group_size=self.group_size, table_bits=self.table_bits)

    def layout_of(self, params: float) -> Layout:
        """Totals of a model of that many parameters."""
        return self.layout if self.layout is not None else infer(params, vocabulary=self.vocabulary)

    def memory_of(self, layout: Layout, bits: float) -> float:
        """Bytes in all at inference."""
        return total_bytes(layout, self.form(bits), context=self.context, batch=self.batch, kv_format=self.kv_format)

    def given_params(self) -> float | None:
        """The number of parameters if it is given."""
        return self.layout.parameters if self.layout is not None else self.params

    def largest_params(self, bits: float) -> float:
        """Largest number of parameters that fits the memory at this bit width; infinity without a memory budget.

        Raises UsageError when not even the smallest model fits.
        """
        if self.memory is None:
            return math.inf
        # Whole bytes: each item of the memory is rounded up.
        budget = self.memory - _ITEMS
        low, high = self._smallest_params(), _LARGEST
        needed = self.memory_of(self.layout_of(low), bits)
        if needed > budget:
            raise UsageError(
                f"memory {format_bytes(self.memory)} is too small for any model at {bits:g} bits: even "
                f"{format_count(low)} parameters need {format_bytes(needed)} with a context of {self.context:,} tokens."
            )
        if self.memory_of(self.layout_of(high), bits) <= budget:
            return high
        found = math.exp(
            root_of_falling(
                lambda log_n: -math.log(self.memory_of(self.layout_of(math.exp(log_n)), bits)),
                -math.log(budget),
                math.log(low),
                math.log(high),
            )
        )
        # The root may lie above the budget by rounding.
        while self.memory_of(self.layout_of(found), bits) > budget:
            found *= 1.0 - 1e-13
        return max(found, low)

    def _smallest_params(self) -> float:
        """Where inferred shapes begin: below it a model has no room for a layer."""
        low, high = _SMALLEST, _LARGEST
        try:
            infer(low, vocabulary=self.vocabulary)
        except UsageError:
            for _ in range(100):
                middle = math.sqrt(low * high)
                try:
                    infer(middle, vocabulary=self.vocabulary)
                    high = middle
                except UsageError:
                    low = middle
            return high
        return low

    def params_range(self, bits: float) -> tuple[float, float]:
        """(smallest, largest) number of parameters to search at this bit width."""
        given = self.given_params()
        if given is not None:
            return given, given
        return self._smallest_params(), min(self.largest_params(bits), _LARGEST)

    def flops_per_token(self, layout: Layout) -> float:
        """Training FLOPs per token, attention included."""
        return sum(flops_per_token(layout, sequence=self.sequence))

    def token_limits(self, layout: Layout, fraction: float) -> dict[str, float]:
        """Largest number of tokens that each budget allows at this split, by the budget's name."""
        limits: dict[str, float] = {}
        per_token = self.flops_per_token(layout)
        if self.tokens is not None:
            limits["tokens"] = self.tokens
        if self.flops is not None:
            limits["flops"] = self.flops / per_token
        if self.gpu_hours is not None:
            slowdown = 1.0 + fraction * (self.rates.qat_slowdown - 1.0)
            limits["gpu_hours"] = self.gpu_hours * self.rates.flops_per_hour / (per_token * slowdown)
        return limits
