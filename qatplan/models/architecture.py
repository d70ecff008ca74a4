"""The shape of a decoder-only transformer, and its tensors.

Everything the planner says about bytes and FLOPs starts from the list of tensors, because a plain
parameters * bits / 8 misses published files by up to 38 %.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from qatplan.errors import UsageError, shorten
from qatplan.models.layers import Bias, Layer, Tensor, attention, feed_forward, norms

LARGEST, MOST_LAYERS = 10**9, 10_000
"""Of a shape: work grows with the layers, and products of the others must stay numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """A decoder-only model: layers that are all alike, as the fields say, or a `stack` of any layers.

    Of a stack the fields up to `experts_active` say what its layers have in common.
    """

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
    attention_bias: Bias = "none"
    expert_bias: bool = False
    attention_sinks: bool = False
    """One learned logit per head beside the keys (gpt-oss)."""
    local_layers: int = 0
    """Layers whose attention sees only the last `window` tokens."""
    window: int = 0
    stack: tuple[Layer, ...] = ()
    outside: tuple[Tensor, ...] = ()
    """Tensors besides the embedding, the stack, the last norm's weights and the head."""
    final_norm: bool = True
    mixtures_known: bool = True
    """False where llama.cpp's choice of tensor types for this family is not followed here."""
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
        if self.stack and len(self.stack) != self.layers:
            raise UsageError(f"{self.name}: layers is {self.layers}, but the stack has {len(self.stack)}.")
        if len({layer.window for layer in self.blocks if layer.window}) > 1:
            raise UsageError(f"{self.name}: its layers have different windows; one is understood.")

    @property
    def blocks(self) -> tuple[Layer, ...]:
        """Every layer."""
        if self.stack:
            return self.stack
        local = (self._layer(self.window),) * self.local_layers if self.local_layers else ()
        return local + (self._layer(0),) * (self.layers - self.local_layers)

    def tensors(self) -> Iterator[Tensor]:
        """Every weight tensor, layer by layer in the order of the forward pass."""
        yield Tensor(kind="embedding", rows=self.vocabulary, cols=self.width)
        yield from self.outside
        for layer, block in enumerate(self.blocks):
            for tensor in block.tensors:
                yield tensor.at(layer)
        if self.final_norm:
            yield Tensor(kind="norm", rows=1, cols=self.width)
        if not self.tied:
            yield Tensor(kind="head", rows=self.vocabulary, cols=self.width)

    def _layer(self, window: int) -> Layer:
        mixer = attention(
            self.width, self.heads, self.kv_heads, self.head_size, window=window, bias=self.attention_bias,
            query_key_norm=self.query_key_norm, sinks=self.attention_sinks,
        )  # fmt: skip
        forward = feed_forward(self.width, self.feed_forward, bias=self.expert_bias, experts=self.experts)
        return mixer + forward + norms(self.norms_per_layer * self.width)
