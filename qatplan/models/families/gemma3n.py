"""Gemma 3n: an embedding for each layer, several streams, and late layers that read the keys of earlier ones."""

from __future__ import annotations

from qatplan.models.architecture import Architecture
from qatplan.models.families.config import Config
from qatplan.models.families.grouped import all_but_each
from qatplan.models.layers import Layer, Tensor, attention, feed_forward, norms


def gemma3n(config: Config) -> Architecture:
    """The text part (Gemma3nTextConfig). Its matrices beyond attention and feed-forward count as mixers."""
    width, heads, kv_heads, head_size = config.width, config.heads, config.kv_heads(), config.head_size(256)
    inputs, rank = config.whole("hidden_size_per_layer_input"), config.whole("laurel_rank")
    streams, layers = config.whole("altup_num_inputs"), config.layers
    shared = config.whole("num_kv_shared_layers", least=0, most=layers)
    widths = config.get("intermediate_size")
    same = not isinstance(widths, list) or (len(widths) == layers and len(set(map(repr, widths))) == 1)
    config.refuse("intermediate_size", allowed="one number, or the same one for each layer", unless=same)
    if isinstance(widths, list):
        config = Config(
            name=config.name, family=config.family, fields={**config.fields, "intermediate_size": widths[0]}
        )
    hidden = config.whole("intermediate_size")
    rest = feed_forward(width, hidden) + norms(4 * width)
    # Prediction and correction of the streams (AltUp), a low-rank branch (LAuReL), and the layer's own embedding.
    rest += Layer(
        tensors=(
            Tensor(kind="norm", rows=1, cols=4 * width),  # of streams, router, branch and own embedding
            Tensor(kind="router", rows=streams, cols=width),
            Tensor(kind="recurrence", rows=1, cols=streams * streams + streams**3),
            Tensor(kind="mixer", rows=rank, cols=width),
            Tensor(kind="mixer", rows=width, cols=rank),
            Tensor(kind="mixer", rows=inputs, cols=width),
            Tensor(kind="mixer", rows=width, cols=inputs),
        )
    )
    bias = config.flag("attention_bias")
    stack = []
    for layer, window in enumerate(config.windows(all_but_each(5)(config))):
        mixer = attention(
            width, heads, kv_heads, head_size, window=window, bias="all" if bias else "none",
            query_key_norm="head", own_keys=layer < layers - shared,
        )  # fmt: skip
        stack.append(mixer + rest)
    outside = (
        Tensor(kind="embedding", rows=config.whole("vocab_size_per_layer_input"), cols=layers * inputs),
        Tensor(kind="mixer", rows=layers * inputs, cols=width),
        *(Tensor(kind="mixer", rows=width, cols=width),) * (2 * (streams - 1)),
        Tensor(kind="norm", rows=1, cols=inputs),
    )
    return config.architecture(
        stack, tied=True, feed_forward=hidden, kv_heads=kv_heads, head_size=head_size, outside=outside
    )
