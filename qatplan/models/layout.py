"""What bytes and FLOPs depend on, as plain totals: taken from an architecture, or inferred from a parameter count.

The planner moves the number of parameters continuously, so an inferred layout has real-valued totals that grow
smoothly with N; an architecture gives the same totals exactly.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from qatplan.errors import UsageError
from qatplan.models.formats import Uniform

if TYPE_CHECKING:
    from qatplan.models.architecture import Architecture


MICRO_BATCH: Final = 512
"""Prompt tokens that are computed at a time, llama.cpp's default (`--ubatch-size`)."""
_CELLS: Final = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Matrix:
    """A stack of equal weight matrices: `rows` output channels in all, `cols` inputs each."""

    rows: float
    cols: float
    expert: bool = False
    """True for the weights of one expert among several."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Totals of a model."""

    name: str
    parameters: float
    embedding: float
    """Weights of the embedding table."""
    head: float
    """Weights of a head of its own; 0 when tied."""
    tables: tuple[Matrix, ...]
    """The embedding table, and those that a model has for each layer."""
    matrices: tuple[Matrix, ...]
    """All quantizable matrices of the stack, equal shapes gathered."""
    other: float
    """Norms, biases, routers, learned positions, convolutions and decays: kept at 32 bits."""
    width: float
    layers: float
    vocabulary: float
    active_matrix_weights: float
    """Matrix weights that one token passes through, head included, embedding look-up not."""
    attention_width: float
    """Sum over layers of heads * head size, for layers that see the whole context."""
    attention_width_local: float
    """The same for sliding-window layers."""
    kv_values_per_token: float
    """Keys and values kept per token by layers that see the whole context."""
    kv_values_per_token_local: float
    window: float
    """Tokens that a sliding-window layer sees; 0 when there is none."""
    state_values: float
    """Values that recurrent layers keep for a sequence of any length, 32 bits each."""
    inferred: bool
    """True when only the number of parameters was known."""
    source: str

    @property
    def nonembedding(self) -> float:
        """Parameters without the embedding table and the head."""
        return self.parameters - self.embedding - self.head

    @property
    def window_cells(self) -> float:
        """Tokens that a sliding-window layer keeps: its window and a micro-batch, in steps of 256; 0 without one.

        Source: llama.cpp, src/llama-kv-cache-iswa.cpp (size_swa), read in November 2026.
        """
        return math.ceil((self.window + MICRO_BATCH) / _CELLS) * float(_CELLS) if self.window else 0.0

    def weight_bytes(self, form: Uniform) -> dict[str, float]:
        """Bytes of each group of weights in a uniform format."""
        matrices = sum(
            (16.0 * m.rows * m.cols / 8.0)
            if form.quantizes == "experts" and not m.expert
            else form.bytes_of(m.rows, m.cols)
            for m in self.matrices
        )
        head_rows = self.head / self.width
        return {
            "embedding": sum(form.bytes_of(m.rows, m.cols, bits=form.embedding_bits) for m in self.tables),
            "head": form.bytes_of(head_rows, self.width, bits=form.output_bits) if self.head else 0.0,
            "matrices": matrices,
            "norms": self.other * (4.0 if form.bits < 16 else min(form.bits, 32.0) / 8.0),
        }

    def kv_values(self, context: float) -> float:
        """Keys and values kept for one sequence of `context` tokens; sliding windows cap theirs."""
        local = min(context, self.window_cells)
        return self.kv_values_per_token * context + self.kv_values_per_token_local * local


def of_architecture(architecture: Architecture) -> Layout:
    """The exact totals of an architecture."""
    from qatplan.models.layers import MATRIX_KINDS  # a plan from --params never needs it, and starts the sooner

    sizes: Counter[str] = Counter()
    shapes: Counter[tuple[int, bool]] = Counter()
    tables: list[Matrix] = []
    active = 0
    for tensor in architecture.tensors():
        sizes[tensor.kind] += tensor.size
        if tensor.kind == "embedding":
            tables.append(Matrix(rows=float(tensor.rows), cols=float(tensor.cols)))
        if tensor.kind in MATRIX_KINDS:
            shapes[tensor.cols, tensor.count > 1] += tensor.rows * tensor.count
            active += tensor.size // tensor.count * min(tensor.count, architecture.experts_active)
    embedding, head, router = sizes["embedding"], sizes["head"], sizes["router"]
    full = [layer for layer in architecture.blocks if not layer.window]
    local = [layer for layer in architecture.blocks if layer.window]
    return Layout(
        name=architecture.name,
        parameters=float(sizes.total()),
        embedding=float(embedding),
        head=float(head),
        tables=tuple(tables),
        matrices=tuple(
            Matrix(rows=float(rows), cols=float(cols), expert=expert) for (cols, expert), rows in shapes.items()
        ),
        other=float(sum(sizes[kind] for kind in ("norm", "bias", "router", "position", "recurrence"))),
        width=float(architecture.width),
        layers=float(architecture.layers),
        vocabulary=float(architecture.vocabulary),
        active_matrix_weights=float(active + router + architecture.vocabulary * architecture.width),
        attention_width=sum(layer.attention for layer in full),
        attention_width_local=sum(layer.attention for layer in local),
        kv_values_per_token=float(sum(layer.cache for layer in full)),
        kv_values_per_token_local=float(sum(layer.cache for layer in local)),
        window=float(max((layer.window for layer in local), default=0)),
        state_values=float(sum(layer.state for layer in architecture.blocks)),
        inferred=False,
        source=architecture.source,
    )


# Inferred shapes follow a smooth path through small byte-level models and public ones. The anchors: about 100 thousand
# parameters at width 48, 3 layers, 256 bytes; Llama 3.2 1B at width 2048, 16 layers, 128,256 tokens.
_ANCHOR: Final = 96_000.0
_VOCABULARY: Final = (256.0, 128_256.0, 0.657)
_ASPECT: Final = (16.0, 128.0, 0.22)
_FEED_FORWARD: Final = 3.5
_KV_SHARE: Final = 0.25
_SMALLEST: Final = 1_000.0


def vocabulary_for(parameters: float) -> float:
    """Vocabulary that models of this size tend to have: 256 for the smallest, 128,256 from about 1.2 billion on."""
    low, high, power = _VOCABULARY
    return float(min(max(low * (parameters / _ANCHOR) ** power, low), high))


def infer(parameters: float, *, vocabulary: float | None = None) -> Layout:
    """A plausible layout for a model of which only the number of parameters is known.

    Llama-like: tied embeddings, a quarter as many key/value heads as heads, feed-forward width 3.5 times the width,
    width / layers growing from 16 to 128. The totals add up to `parameters` exactly and grow smoothly with it.

    Raises UsageError when the number is not at least a thousand or the vocabulary leaves no room for layers.
    """
    if not (math.isfinite(parameters) and parameters >= _SMALLEST):
        raise UsageError(f"params is {parameters:g}, but a model must have at least {_SMALLEST:g} parameters.")
    table = vocabulary_for(parameters) if vocabulary is None else float(vocabulary)
    low, high, power = _ASPECT
    aspect = min(max(low * (parameters / _ANCHOR) ** power, low), high)
    per_layer = 2.0 + 2.0 * _KV_SHARE + 3.0 * _FEED_FORWARD
    # table * w + per_layer * w^3 / aspect = parameters has one positive root; Newton from above is monotone.
    width = (parameters * aspect / per_layer) ** (1.0 / 3.0)
    for _ in range(60):
        excess = table * width + per_layer * width**3 / aspect - parameters
        step = excess / (table + 3.0 * per_layer * width**2 / aspect)
        width -= step
        if step <= 1e-14 * width:
            break
    layers = width / aspect
    if layers < 0.5:
        raise UsageError(
            f"a vocabulary of {table:,.0f} leaves no room for layers in a model of {parameters:,.0f} parameters; "
            "give a smaller --vocabulary or the model's shape."
        )
    stack = per_layer * layers * width**2
    return Layout(
        name="inferred",
        parameters=parameters,
        embedding=parameters - stack,
        head=0.0,
        tables=(Matrix(rows=(parameters - stack) / width, cols=width),),
        matrices=(
            Matrix(rows=layers * width * (2.0 + 2.0 * _KV_SHARE + 2.0 * _FEED_FORWARD), cols=width),
            Matrix(rows=layers * width, cols=_FEED_FORWARD * width),
        ),
        other=0.0,
        width=width,
        layers=layers,
        vocabulary=table,
        active_matrix_weights=parameters,
        attention_width=layers * width,
        attention_width_local=0.0,
        kv_values_per_token=2.0 * layers * _KV_SHARE * width,
        kv_values_per_token_local=0.0,
        window=0.0,
        state_values=0.0,
        inferred=True,
        source=(
            f"inferred from the number of parameters: about {max(round(layers), 1)} layers of width {round(width)}, "
            f"a vocabulary of {round(table):,}, tied embeddings, one key/value head to four heads"
        ),
    )
