"""The shape of a decoder-only transformer, and its tensors.

Everything the planner says about bytes and FLOPs starts from the list of tensors, because a plain
parameters * bits / 8 misses published files by up to 38 %.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from qatplan.errors import UsageError, shorten

TensorKind = Literal[
    "embedding", "head", "query", "key", "value", "attention-output", "gate", "up", "down", "router", "norm", "bias"
]

LARGEST, MOST_LAYERS = 10**9, 10_000
"""Of a shape: work grows with the layers, and products of the others must stay numbers."""

MATRIX_KINDS: frozenset[str] = frozenset({"query", "key", "value", "attention-output", "gate", "up", "down"})
"""Kinds that every weight quantizer quantizes; embedding and head follow their own rule, the rest stay as they are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tensor:
    """One weight tensor: `count` matrices of `rows` output channels by `cols` inputs (`rows` 1 for vectors)."""

    kind: TensorKind
    layer: int
    """Layer index from 0; -1 for tensors outside the stack."""
    rows: int
    cols: int
    count: int = 1
    """Number of experts that each hold such a matrix; 1 in a dense model."""

    @property
    def size(self) -> int:
        """Number of weights in it."""
        return self.rows * self.cols * self.count


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """A decoder-only transformer with gated feed-forward layers (SwiGLU or GeGLU), as most public models are."""

    name: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_size: int
    feed_forward: int
    """Hidden width of the feed-forward layer, of one expert in a mixture of experts."""
    vocabulary: int
    tied: bool
    """True when the output head is the embedding table."""
    experts: int = 1
    experts_active: int = 1
    norms_per_layer: int = 2
    query_key_norm: Literal["none", "head", "full"] = "none"
    """Normalised queries and keys: per head (one vector of the head size) or over the full projection."""
    attention_bias: Literal["none", "qkv", "all"] = "none"
    expert_bias: bool = False
    attention_sinks: bool = False
    """One learned logit per head beside the keys (gpt-oss)."""
    local_layers: int = 0
    """Layers whose attention sees only the last `window` tokens."""
    window: int = 0
    source: str = ""

    def __post_init__(self) -> None:
        for field in ("layers", "width", "heads", "kv_heads", "head_size", "feed_forward", "vocabulary", "experts"):
            value = getattr(self, field)
            most = MOST_LAYERS if field == "layers" else LARGEST
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                shown = shorten(repr(value)) if not isinstance(value, int) or abs(value) < 10**60 else "larger"
                raise UsageError(f"{self.name}: {field} is {shown}, but it must be a whole number from 1 to {most}.")
        if self.heads % self.kv_heads:
            raise UsageError(f"{self.name}: heads is {self.heads}, which kv_heads {self.kv_heads} does not divide.")
        if not 1 <= self.experts_active <= self.experts:
            raise UsageError(
                f"{self.name}: experts_active is {self.experts_active}, but it must lie between 1 and {self.experts}."
            )
        if not 0 <= self.local_layers <= self.layers or (self.local_layers and self.window < 1):
            raise UsageError(
                f"{self.name}: local_layers must lie between 0 and {self.layers}, with a window of at least 1 token."
            )

    def tensors(self) -> Iterator[Tensor]:
        """Every weight tensor, layer by layer in the order of the forward pass."""
        queries, keys, experts = self.heads * self.head_size, self.kv_heads * self.head_size, self.experts
        yield Tensor(kind="embedding", layer=-1, rows=self.vocabulary, cols=self.width)
        for layer in range(self.layers):
            yield Tensor(kind="query", layer=layer, rows=queries, cols=self.width)
            yield Tensor(kind="key", layer=layer, rows=keys, cols=self.width)
            yield Tensor(kind="value", layer=layer, rows=keys, cols=self.width)
            yield Tensor(kind="attention-output", layer=layer, rows=self.width, cols=queries)
            yield Tensor(kind="gate", layer=layer, rows=self.feed_forward, cols=self.width, count=experts)
            yield Tensor(kind="up", layer=layer, rows=self.feed_forward, cols=self.width, count=experts)
            yield Tensor(kind="down", layer=layer, rows=self.width, cols=self.feed_forward, count=experts)
            if experts > 1:
                yield Tensor(kind="router", layer=layer, rows=experts, cols=self.width)
            yield Tensor(kind="norm", layer=layer, rows=1, cols=self._norm_values(queries, keys))
            if biases := self._bias_values(queries, keys):
                yield Tensor(kind="bias", layer=layer, rows=1, cols=biases)
        yield Tensor(kind="norm", layer=-1, rows=1, cols=self.width)
        if not self.tied:
            yield Tensor(kind="head", layer=-1, rows=self.vocabulary, cols=self.width)

    def _norm_values(self, queries: int, keys: int) -> int:
        query_key = {"none": 0, "head": 2 * self.head_size, "full": queries + keys}[self.query_key_norm]
        return self.norms_per_layer * self.width + query_key

    def _bias_values(self, queries: int, keys: int) -> int:
        attention = {"none": 0, "qkv": queries + 2 * keys, "all": queries + 2 * keys + self.width}[self.attention_bias]
        experts = self.experts * (2 * self.feed_forward + self.width + 1)  # the last is the router's
        return attention + (experts if self.expert_bias else 0) + (self.heads if self.attention_sinks else 0)
