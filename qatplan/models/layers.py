"""Layers by their parts: the tensors of each, and what it keeps for every token or sequence.

A part (attention, feed-forward, a recurrent mixer) is itself a `Layer`; parts add up. Shapes are those of transformers'
modeling files, held against its own parameter counts in tests/models/test_configs.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TensorKind = Literal[
    "embedding", "position", "head", "query", "key", "value", "query-key-value", "latent", "attention-output", "mixer",
    "gate", "up", "down", "router", "norm", "bias", "recurrence",
]  # fmt: skip

MATRIX_KINDS: frozenset[str] = frozenset(
    ["query", "key", "value", "query-key-value", "latent", "attention-output", "mixer", "gate", "up", "down"]
)
"""Kinds that every weight quantizer quantizes; embedding and head follow their own rule, the rest stay as they are."""

Bias = Literal["none", "qkv", "all"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tensor:
    """One weight tensor: `count` matrices of `rows` output channels by `cols` inputs (`rows` 1 for vectors)."""

    kind: TensorKind
    layer: int = -1
    """Layer index from 0; -1 for tensors outside the stack."""
    rows: int
    cols: int
    count: int = 1
    """Number of experts that each hold such a matrix; 1 in a dense model."""

    @property
    def size(self) -> int:
        """Number of weights in it."""
        return self.rows * self.cols * self.count

    def at(self, layer: int) -> Tensor:
        """The same tensor in that layer."""
        return Tensor(kind=self.kind, layer=layer, rows=self.rows, cols=self.cols, count=self.count)


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """A layer or a part of one."""

    tensors: tuple[Tensor, ...] = ()
    cache: int = 0
    """Values kept per token."""
    window: int = 0
    """Tokens that its attention sees; 0 for all."""
    state: int = 0
    """Values kept per sequence, however long: a recurrent state and the last inputs of its convolution."""
    attention: float = 0.0
    """Heads times head size (the mean of keys' and values'): what attention scores cost per token seen."""

    def __add__(self, other: Layer) -> Layer:
        return Layer(
            tensors=self.tensors + other.tensors,
            cache=self.cache + other.cache,
            window=self.window or other.window,
            state=self.state + other.state,
            attention=self.attention + other.attention,
        )


def _part(*tensors: tuple[TensorKind, int, int], count: int = 1) -> tuple[Tensor, ...]:
    """Tensors of (kind, rows, cols), without those that are empty."""
    return tuple(Tensor(kind=kind, rows=rows, cols=cols, count=count) for kind, rows, cols in tensors if rows and cols)


def norms(values: int, *, bias: bool = False) -> Layer:
    """Norm weights of that many values in all, perhaps as many biases."""
    return Layer(tensors=_part(("norm", 1, values), ("bias", 1, values if bias else 0)))


def attention(
    width: int, heads: int, kv_heads: int, head_size: int, *, window: int = 0, bias: Bias = "none",
    query_key_norm: Literal["none", "head", "full"] = "none", sinks: bool = False, fused: bool = False,
    gated: bool = False, own_keys: bool = True,
) -> Layer:  # fmt: skip
    """Grouped-query attention. `gated` queries come with an output gate of their size; `fused` is one projection.

    Without `own_keys` the layer reads the keys and values of an earlier one, and keeps none.
    """
    queries, keys = heads * head_size, kv_heads * head_size if own_keys else 0
    projected = queries * (2 if gated else 1)
    normed = {"none": 0, "head": head_size * (2 if own_keys else 1), "full": queries + keys}[query_key_norm]
    biases = {"none": 0, "qkv": projected + 2 * keys, "all": projected + 2 * keys + width}[bias]
    separate = _part(("query", projected, width), ("key", keys, width), ("value", keys, width))
    return Layer(
        tensors=(
            *(_part(("query-key-value", projected + 2 * keys, width)) if fused else separate),
            *_part(("attention-output", width, queries), ("norm", 1, normed)),
            *_part(("bias", 1, biases + (heads if sinks else 0))),
        ),
        cache=2 * keys,
        window=window,
        attention=float(queries),
    )


def latent_attention(
    width: int, heads: int, *, rank: int, query_rank: int, plain: int, rotary: int, value: int, bias: bool = False
) -> Layer:
    """Multi-head latent attention (arXiv 2405.04434, section 2.1): `rank` + `rotary` values are kept per token.

    `plain` and `rotary` are the parts of a query or key head without and with positions, `value` that of a value head;
    `query_rank` is 0 where queries are not compressed.
    """
    queries = heads * (plain + rotary)
    biases = (query_rank + rank + rotary + width) if bias else 0
    return Layer(
        tensors=_part(
            ("latent", query_rank, width), ("norm", 1, query_rank), ("query", queries, query_rank or width),
            ("latent", rank + rotary, width), ("norm", 1, rank), ("latent", heads * (plain + value), rank),
            ("attention-output", width, heads * value), ("bias", 1, biases),
        ),
        cache=rank + rotary,
        attention=heads * (plain + rotary + value) / 2,
    )  # fmt: skip


def feed_forward(
    width: int, hidden: int, *, gated: bool = True, fused: bool = False, bias: bool = False, experts: int = 1,
    shared: int = 0, shared_gate: bool = False, router: bool | None = None,
) -> Layer:  # fmt: skip
    """Feed-forward weights, of `experts` experts with a router, and `shared` hidden units for every token beside them.

    `fused` holds gate and up in one matrix, as kind "up"; `bias` gives every matrix and the router one; a router is
    there from two experts on unless `router` says so.
    """
    ups = hidden * (2 if gated and fused else 1)
    routed = experts > 1 if router is None else router
    per_expert = (hidden * (2 if gated else 1) + width) if bias else 0
    gate = hidden if gated and not fused else 0
    return Layer(
        tensors=(
            *_part(("gate", gate, width), ("up", ups, width), ("down", width, hidden), count=experts),
            *_part(("gate", shared if gated else 0, width), ("up", shared, width), ("down", width, shared)),
            *_part(("router", experts if routed else 0, width), ("router", 1 if shared_gate else 0, width)),
            *_part(("bias", 1, experts * per_expert + (experts if bias and routed else 0))),
        )
    )


def mamba(
    width: int, *, heads: int, head_size: int, state: int, groups: int, kernel: int, conv_bias: bool, bias: bool,
    normed: bool = True,
) -> Layer:  # fmt: skip
    """A Mamba-2 mixer (arXiv 2405.21060): state and the convolution's last inputs are kept, whatever the context."""
    inner = heads * head_size
    convolved = inner + 2 * groups * state
    projected = inner + convolved + heads
    return Layer(
        tensors=_part(
            ("mixer", projected, width), ("mixer", width, inner), ("norm", 1, inner if normed else 0),
            ("recurrence", 1, convolved * kernel + 3 * heads),  # convolution, step bias, decay and skip
            ("bias", 1, (convolved if conv_bias else 0) + (projected + width if bias else 0)),
        ),
        state=inner * state + (kernel - 1) * convolved,
    )  # fmt: skip


def delta_net(width: int, *, key_heads: int, key_size: int, value_heads: int, value_size: int, kernel: int) -> Layer:
    """A gated DeltaNet mixer (arXiv 2412.06464), as in Qwen3-Next: a key-by-value state for each value head."""
    keys, values = key_heads * key_size, value_heads * value_size
    convolved = 2 * keys + values
    return Layer(
        tensors=_part(
            ("mixer", convolved + values, width), ("mixer", 2 * value_heads, width), ("mixer", width, values),
            ("norm", 1, value_size), ("recurrence", 1, convolved * kernel + 2 * value_heads),
        ),
        state=value_heads * key_size * value_size + (kernel - 1) * convolved,
    )  # fmt: skip


def lightning(width: int, heads: int, head_size: int) -> Layer:
    """Linear attention of MiniMax-01 (arXiv 2501.08313): a key-by-value state for each head, and an output gate."""
    inner = heads * head_size
    return Layer(
        tensors=_part(
            ("mixer", 3 * inner, width), ("mixer", inner, width), ("mixer", width, inner), ("norm", 1, inner)
        ),
        state=heads * head_size**2,
    )
