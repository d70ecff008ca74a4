"""What a plan is asked for: budgets, and how the model will be served."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from qatplan.errors import UsageError
from qatplan.models.formats import NAMED, Uniform, own
from qatplan.models.layout import Layout
from qatplan.models.memory import Memory, estimate, kv_bits, total_bytes

FULL_PRECISION: Final = 16.0
"""Bits of weights that are not quantized: a plan at this width has no QAT phase."""


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
        require(**vars(self))
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
        require(context=self.context, batch=self.batch)
        kv_bits(self.kv_format)

    def form(self, bits: float) -> Uniform:
        """Storage format at this bit width."""
        if bits >= FULL_PRECISION:
            return replace(NAMED["bf16"], table_bits=self.embedding_bits or bits)
        return own(bits, group_size=self.group_size, table_bits=self.embedding_bits)

    def bytes_of(self, layout: Layout, bits: float) -> float:
        """Bytes in all; a real number that grows smoothly with an inferred layout's parameters."""
        return total_bytes(layout, self.form(bits), context=self.context, batch=self.batch, kv_format=self.kv_format)

    def memory(self, layout: Layout, bits: float) -> Memory:
        """The same, item by item in whole bytes."""
        form = self.form(bits)
        return estimate(layout, form=form, context=self.context, batch=self.batch, kv_format=self.kv_format)


def refuse_split(bits: float, fraction: float | None) -> None:
    """Raise UsageError for a share of QAT in full precision; none is what that is."""
    if bits >= FULL_PRECISION and fraction:
        raise UsageError(
            f"fraction has no meaning at {bits:g} bits, which is full precision without a QAT phase; leave it out, or "
            "give bits below 16."
        )


def require(**given: float | None) -> None:
    """Raise UsageError for a number that no plan can have, by its name; None is no number."""
    for name, value in given.items():
        allowed, words = _ALLOWED.get(name, _POSITIVE)
        if value is not None and not allowed(value):
            raise UsageError(f"{name.replace('_', ' ')} is {value:g}, but it must {words}.")


_POSITIVE = (lambda v: math.isfinite(v) and v > 0, "be a finite number above 0")
_AT_LEAST_ONE = (lambda v: math.isfinite(v) and v >= 1, "be a finite number of at least 1")
_ALLOWED: Final[dict[str, tuple[Callable[[float], bool], str]]] = {
    "fraction": (lambda v: 0 <= v <= 1, "lie between 0 and 1"),
    "level": (lambda v: 0 < v < 1, "lie between 0 and 1"),
    "bits": (lambda v: 1 <= v <= 16, "lie between 1 and 16"),
    **dict.fromkeys(("context", "batch", "runs", "extrapolation_limit"), _AT_LEAST_ONE),
}
"""What some numbers must be, by name; all others are finite and above 0."""
