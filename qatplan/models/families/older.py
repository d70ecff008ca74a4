"""Families with ungated feed-forward layers, biases and perhaps learned positions."""

from __future__ import annotations

from qatplan.models.architecture import Architecture
from qatplan.models.families.config import Config
from qatplan.models.families.grouped import every
from qatplan.models.layers import Layer, Tensor, attention, feed_forward, norms


def _build(
    config: Config, layer: Layer, *, tied: bool, hidden: int, kv_heads: int, outside: tuple[Tensor, ...] = (),
    windows: list[int] | None = None, final_norm: bool = True,
) -> Architecture:  # fmt: skip
    last = (Tensor(kind="bias", rows=1, cols=config.width),) if final_norm else ()
    layers = [layer] * config.layers
    if windows:
        layers = [layer + Layer(window=window) for window in windows]
    return config.architecture(
        layers, tied=tied, feed_forward=hidden, kv_heads=kv_heads, head_size=config.width // config.heads,
        outside=(*outside, *last), final_norm=final_norm, mixtures_known=False,
    )  # fmt: skip


def _positions(config: Config, *keys: str, more: int = 0) -> tuple[Tensor, ...]:
    return (Tensor(kind="position", rows=config.whole(*keys) + more, cols=config.width),)


def gpt2(config: Config) -> Architecture:
    """GPT2Config, and GPTBigCodeConfig (StarCoder), whose heads may all share one key and value."""
    width, heads = config.width, config.heads
    config.refuse("add_cross_attention", allowed="false", unless=not config.flag("add_cross_attention"))
    shares = config.family == "gpt_bigcode" and config.flag("multi_query", True)
    kv_heads, hidden = 1 if shares else heads, config.whole("n_inner", default=4 * width)
    layer = attention(width, heads, kv_heads, width // heads, bias="all", fused=True)
    layer += feed_forward(width, hidden, gated=False, bias=True) + norms(2 * width, bias=True)
    positions = _positions(config, "n_positions", "max_position_embeddings")
    return _build(config, layer, tied=True, hidden=hidden, kv_heads=kv_heads, outside=positions)


def neox(config: Config) -> Architecture:
    """GPTNeoXConfig (also Pythia)."""
    width, heads, hidden = config.width, config.heads, config.whole("intermediate_size")
    bias = config.flag("attention_bias", True)
    layer = attention(width, heads, heads, width // heads, bias="all" if bias else "none", fused=True)
    layer += feed_forward(width, hidden, gated=False, bias=True) + norms(2 * width, bias=True)
    return _build(config, layer, tied=False, hidden=hidden, kv_heads=heads)


def opt(config: Config) -> Architecture:
    """OPTConfig; its table of positions has two entries more than positions."""
    width, heads, hidden = config.width, config.heads, config.whole("ffn_dim")
    inner = config.whole("word_embed_proj_dim", default=width)
    config.refuse("word_embed_proj_dim", allowed=f"the hidden_size {width}", unless=inner == width)
    affine = config.flag("layer_norm_elementwise_affine", True)
    config.refuse("layer_norm_elementwise_affine", allowed="true", unless=affine)
    bias = config.flag("enable_bias", True)
    layer = attention(width, heads, heads, width // heads, bias="all" if bias else "none")
    layer += feed_forward(width, hidden, gated=False, bias=bias) + norms(2 * width, bias=True)
    last = config.flag("do_layer_norm_before", True) and not config.flag("_remove_final_layer_norm")
    positions = _positions(config, "max_position_embeddings", more=2)
    return _build(config, layer, tied=True, hidden=hidden, kv_heads=heads, outside=positions, final_norm=last)


def bloom(config: Config) -> Architecture:
    """BloomConfig: no positions but a bias of the scores, and a norm after the embedding."""
    width, heads = config.width, config.heads
    layer = attention(width, heads, heads, width // heads, bias="all", fused=True)
    layer += feed_forward(width, 4 * width, gated=False, bias=True) + norms(2 * width, bias=True)
    after = norms(width, bias=True).tensors
    return _build(config, layer, tied=True, hidden=4 * width, kv_heads=heads, outside=after)


def starcoder2(config: Config) -> Architecture:
    """Starcoder2Config."""
    width, heads, kv_heads = config.width, config.heads, config.kv_heads()
    hidden, bias = config.whole("intermediate_size"), config.flag("use_bias", True)
    layer = attention(width, heads, kv_heads, width // heads, bias="all" if bias else "none")
    layer += feed_forward(width, hidden, gated=False, bias=bias) + norms(2 * width, bias=True)
    windows = config.windows(every(config))
    return _build(config, layer, tied=True, hidden=hidden, kv_heads=kv_heads, windows=windows)


def falcon(config: Config) -> Architecture:
    """FalconConfig: attention and feed-forward side by side in most, with one norm or, in the newer ones, two."""
    width, heads, newer = config.width, config.heads, config.flag("new_decoder_architecture")
    kv_heads = heads
    if newer:
        kv_heads = config.whole("num_kv_heads", "n_head_kv", default=heads)
    elif config.flag("multi_query", True):
        kv_heads = 1
    hidden, bias = config.whole("ffn_hidden_size", default=4 * width), config.flag("bias")
    two = config.whole("num_ln_in_parallel_attn", default=2) == 2 if newer else not config.flag("parallel_attn", True)
    layer = attention(width, heads, kv_heads, width // heads, bias="all" if bias else "none", fused=True)
    layer += feed_forward(width, hidden, gated=False, bias=bias) + norms(width * (2 if two else 1), bias=True)
    return _build(config, layer, tied=True, hidden=hidden, kv_heads=kv_heads)


def phi(config: Config) -> Architecture:
    """PhiConfig (Phi-1, Phi-1.5, Phi-2): one norm a layer, a head with a bias."""
    width, heads, kv_heads = config.width, config.heads, config.kv_heads()
    config.refuse("qk_layernorm", allowed="false", unless=not config.flag("qk_layernorm"))
    hidden = config.whole("intermediate_size")
    layer = attention(width, heads, kv_heads, width // heads, bias="all")
    layer += feed_forward(width, hidden, gated=False, bias=True) + norms(width, bias=True)
    head = (Tensor(kind="bias", rows=1, cols=config.whole("vocab_size")),)
    return _build(config, layer, tied=False, hidden=hidden, kv_heads=kv_heads, outside=head)
