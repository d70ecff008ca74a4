"""What a plan is asked for: budgets, how the model will be served, and how it will be trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from qatplan.errors import UsageError
from qatplan.models.costs import (
    DEFAULT_DEVICE,
    DEFAULT_SEQUENCE,
    DEFAULT_UTILISATION,
    Cost,
    Rates,
    cost,
    device,
    flops_per_token,
)
from qatplan.models.formats import Uniform, own
from qatplan.models.layout import Layout
from qatplan.models.memory import Memory, estimate, kv_bits, total_bytes


@dataclass(frozen=True, kw_only=True)
class Budgets:
    """Upper bounds, but for `params`, `fraction` and `fp_tokens`, which are exact; None leaves a quantity free."""

    params: float | None = None
    """Parameters in all, embeddings included."""
    tokens: float | None = None
    """Training tokens; with `fp_tokens`, tokens of the QAT phase alone."""
    flops: float | None = None
    """Training FLOPs; with `fp_tokens`, of the QAT phase alone."""
    gpu_hours: float | None = None
    """Device hours; with `fp_tokens`, of the QAT phase alone."""
    memory: float | None = None
    """Bytes for weights, KV cache and workspace."""
    fraction: float | None = None
    """Share of the tokens in QAT, if it must not be chosen."""
    target_loss: float | None = None
    """Nats per token to reach with the fewest FLOPs."""
    fp_tokens: float | None = None
    """Tokens that a given full-precision model has already seen (continuation)."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "fraction":
                require_positive(name, value)
        require_fraction(self.fraction)
        if self.fp_tokens is not None and self.fraction is not None:
            raise UsageError("give fp tokens or fraction, not both: with a given model the tokens set the split.")

    @property
    def bounds_tokens(self) -> bool:
        """Whether anything ends the number of tokens to train."""
        return any(v is not None for v in (self.tokens, self.flops, self.gpu_hours, self.target_loss))


@dataclass(frozen=True, kw_only=True)
class Serving:
    """How the model will be used: what its memory at inference depends on."""

    context: int = 8192
    batch: int = 1
    kv_format: str = "f16"
    group_size: int | None = None
    """Weights that share a scale; None is one scale per output channel."""
    embedding_bits: float | None = None
    """Bits of embedding table and head; None is max(bits, 4)."""

    def __post_init__(self) -> None:
        _require_one("context", self.context)
        _require_one("batch", self.batch)
        kv_bits(self.kv_format)

    def form(self, bits: float) -> Uniform:
        """Storage format at this bit width."""
        return own(bits, group_size=self.group_size, table_bits=self.embedding_bits)

    def bytes_of(self, layout: Layout, bits: float) -> float:
        """Bytes in all; a real number that grows smoothly with an inferred layout's parameters."""
        return total_bytes(layout, self.form(bits), context=self.context, batch=self.batch, kv_format=self.kv_format)

    def memory(self, layout: Layout, bits: float) -> Memory:
        """The same, item by item in whole bytes."""
        form = self.form(bits)
        return estimate(layout, form=form, context=self.context, batch=self.batch, kv_format=self.kv_format)


@dataclass(frozen=True, kw_only=True)
class Training:
    """How the model will be trained: what its cost depends on."""

    sequence: int = DEFAULT_SEQUENCE
    """Tokens per training sequence."""
    device: str = DEFAULT_DEVICE
    dtype: str = "bf16"
    mfu: float = DEFAULT_UTILISATION
    """Share of the device's peak that training reaches."""
    qat_slowdown: float | None = None
    """Time of a QAT token over that of a full-precision one; None where it is to be measured, else 1."""
    price_per_hour: float | None = None

    def __post_init__(self) -> None:
        _require_one("sequence", self.sequence)
        _ = self.rates

    @cached_property
    def rates(self) -> Rates:
        """Speed and price of the device. Raises UsageError for one that is not known, and for impossible numbers."""
        return Rates(
            device=device(self.device),
            dtype=self.dtype,
            utilisation=self.mfu,
            qat_slowdown=1.0 if self.qat_slowdown is None else self.qat_slowdown,
            price_per_hour=self.price_per_hour,
        )

    def flops_per_token(self, layout: Layout) -> float:
        """Training FLOPs per token, attention included."""
        return sum(flops_per_token(layout, sequence=self.sequence))

    def cost(self, layout: Layout, *, d_fp: float, d_qat: float) -> Cost:
        """Cost of training `d_fp` tokens in full precision, then `d_qat` in QAT."""
        return cost(layout, d_fp=d_fp, d_qat=d_qat, rates=self.rates, sequence=self.sequence)


def require_positive(name: str, value: float | None) -> None:
    """Raise UsageError unless the number is missing, or finite and above 0."""
    if value is not None and not (math.isfinite(value) and value > 0):
        raise UsageError(f"{name.replace('_', ' ')} is {value:g}, but it must be a finite number above 0.")


def require_fraction(fraction: float | None) -> None:
    """Raise UsageError unless the share of QAT is missing, or lies between 0 and 1."""
    if fraction is not None and not 0 <= fraction <= 1:
        raise UsageError(f"fraction is {fraction:g}, but it must lie between 0 and 1.")


def require_width(bits: float | None, verb: str = "is") -> None:
    """Raise UsageError unless weights can have this width, in bits; None is no width."""
    if bits is not None and not 1 <= bits <= 16:
        raise UsageError(f"bits {verb} {bits:g}, but a bit width must lie between 1 and 16.")


def require_level(level: float) -> None:
    """Raise UsageError unless it can be the level of an interval."""
    if not 0 < level < 1:
        raise UsageError(f"level is {level:g}, but it must lie between 0 and 1.")


def require_limit(limit: float) -> None:
    """Raise UsageError unless it can be the factor beyond the fitted range up to which an answer is trusted."""
    if not (math.isfinite(limit) and limit >= 1):
        raise UsageError(f"extrapolation limit is {limit:g}, but it must be a finite number of at least 1.")


def _require_one(name: str, value: int) -> None:
    if value < 1:
        raise UsageError(f"{name} is {value}, but it must be at least 1.")
