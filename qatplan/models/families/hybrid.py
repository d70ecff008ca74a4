"""Families of which most layers keep a state of fixed size instead of keys and values."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from qatplan.errors import UsageError, shorten
from qatplan.models.architecture import MOST_LAYERS, Architecture
from qatplan.models.families.config import Config
from qatplan.models.families.grouped import dense_width, expert_width, experts_of, routed_layers, shared
from qatplan.models.layers import Layer, attention, delta_net, feed_forward, lightning, mamba, norms

_LINEAR = "linear_attention"
_KINDS = frozenset({_LINEAR, "full_attention"})


def qwen_next(config: Config) -> Architecture:
    """Qwen3NextConfig and the text part of Qwen3_5Config: gated DeltaNet in three layers of four unless the file says.

    Both name every expert layer's gate for the shared expert.
    """
    width, heads, kv_heads = config.width, config.heads, config.kv_heads()
    head_size = config.head_size(256)
    full = attention(
        width, heads, kv_heads, head_size, gated=True, query_key_norm="head",
        bias="all" if config.flag("attention_bias") else "none",
    )  # fmt: skip
    linear = delta_net(
        width, key_heads=config.whole("linear_num_key_heads"), key_size=config.whole("linear_key_head_dim"),
        value_heads=config.whole("linear_num_value_heads"), value_size=config.whole("linear_value_head_dim"),
        kernel=config.whole("linear_conv_kernel_dim"),
    )  # fmt: skip
    every = config.whole("full_attention_interval", default=4)
    usual = [_LINEAR if (i + 1) % every else "full_attention" for i in range(config.layers)]
    kinds = config.one_per_layer("layer_types", _KINDS) or usual
    count, active = experts_of(config)
    routed = routed_layers(config, count)
    dense = routed_part = Layer()
    if not all(routed):
        dense = feed_forward(width, dense_width(config, config.whole("intermediate_size")))
    if any(routed):
        routed_part = feed_forward(
            width, expert_width(config), experts=count, shared=shared(config), shared_gate=True
        )  # fmt: skip
    around = norms(2 * width)
    stack = [
        (linear if kind == _LINEAR else full) + (routed_part if is_routed else dense) + around
        for kind, is_routed in zip(kinds, routed, strict=True)
    ]
    return config.architecture(
        stack, tied=False, feed_forward=expert_width(config) if any(routed) else config.whole("intermediate_size"),
        kv_heads=kv_heads, head_size=head_size, experts=count, active=active,
    )  # fmt: skip


def minimax(config: Config) -> Architecture:
    """MiniMaxConfig (MiniMax-Text-01); its first files say 0 for linear and 1 for full in `attn_type_list`."""
    width, heads, kv_heads, head_size = config.width, config.heads, config.kv_heads(), config.head_size()
    kinds = config.one_per_layer("layer_types", _KINDS) or config.one_per_layer("attn_type_list", frozenset("01"))
    config.refuse("layer_types", allowed="linear_attention or full_attention for each layer", unless=kinds is not None)
    count, active = experts_of(config)
    hidden = config.whole("intermediate_size")
    rest = feed_forward(width, hidden, experts=count) + norms(2 * width)
    full = attention(width, heads, kv_heads, head_size) + rest
    linear = lightning(width, heads, head_size) + rest
    return config.architecture(
        [linear if str(kind) in (_LINEAR, "0") else full for kind in kinds or ()], tied=False, feed_forward=hidden,
        kv_heads=kv_heads, head_size=head_size, experts=count, active=active,
    )  # fmt: skip


_LETTERS: Mapping[str, str] = MappingProxyType({"M": _LINEAR, "*": "full_attention", "-": "mlp", "E": "moe"})


def nemotron_h(config: Config) -> Architecture:
    """NemotronHConfig: each layer is one Mamba-2 mixer, one attention, one feed-forward or one mixture of experts.

    Files name the layers one by one, in `layers_block_type`, or by letters in `hybrid_override_pattern`.
    """
    pattern = config.get("hybrid_override_pattern")
    if isinstance(pattern, str):
        kinds = [_LETTERS.get(letter, letter) for letter in pattern[: MOST_LAYERS + 1]]
        where = "hybrid_override_pattern"
    else:
        listed = config.get("layers_block_type")
        kinds, where = list(map(str, listed)) if isinstance(listed, list) else [], "layers_block_type"
    kinds = [{"mamba": _LINEAR, "attention": "full_attention"}.get(kind, kind) for kind in kinds]
    said = config.whole("num_hidden_layers", default=len(kinds) or 1, most=MOST_LAYERS)
    if not kinds or len(kinds) != said or not set(kinds) <= set(_LETTERS.values()):
        raise UsageError(
            f"{config.name}: {where} is {shorten(repr(config.get(where)))}, but it must name each of the {said} "
            "layers: mamba (M), attention (*), mlp (-) or moe (E)."
        )
    config = Config(name=config.name, family=config.family, fields={**config.fields, "num_hidden_layers": said})
    width, heads, kv_heads = config.width, config.heads, config.kv_heads()
    head_size = config.whole("head_dim", "attention_head_dim")
    config.refuse("moe_latent_size", allowed="null", unless=config.get("moe_latent_size") is None)
    count, active = experts_of(config) if "moe" in kinds else (1, 1)
    bias = config.flag("mlp_bias")
    parts: dict[str, Layer] = {}
    for kind in set(kinds):
        if kind == "full_attention":
            part = attention(width, heads, kv_heads, head_size)
        elif kind == "mlp":
            part = feed_forward(width, config.whole("intermediate_size"), gated=False, bias=bias)
        elif kind == "moe":
            config.refuse("mlp_bias", allowed="false", unless=not bias)
            units = config.whole("moe_shared_expert_intermediate_size", default=0, least=0)
            common = units * config.whole("n_shared_experts", default=1, least=0)
            part = feed_forward(width, expert_width(config), gated=False, experts=count, shared=common, router=True)
        else:
            part = mamba(
                width, heads=config.whole("mamba_num_heads"), head_size=config.whole("mamba_head_dim"),
                state=config.whole("ssm_state_size"), groups=config.whole("n_groups"),
                kernel=config.whole("conv_kernel"), conv_bias=config.flag("use_conv_bias", True),
                bias=config.flag("use_bias"),
            )  # fmt: skip
        parts[kind] = part + norms(width)
    hidden = "moe_intermediate_size" if "moe" in kinds else "intermediate_size"
    return config.architecture(
        [parts[kind] for kind in kinds], tied=False, feed_forward=config.whole(hidden, default=width),
        kv_heads=kv_heads, head_size=head_size, experts=count, active=active,
    )  # fmt: skip


def falcon_h1(config: Config) -> Architecture:
    """FalconH1Config: attention and a Mamba-2 mixer side by side in every layer."""
    width, heads, kv_heads, head_size = config.width, config.heads, config.kv_heads(), config.head_size()
    inner, mamba_heads = config.whole("mamba_d_ssm"), config.whole("mamba_n_heads")
    config.refuse("projectors_bias", allowed="false", unless=not config.flag("projectors_bias"))
    config.refuse("mamba_proj_bias", allowed="false", unless=not config.flag("mamba_proj_bias"))
    config.refuse("mamba_d_ssm", allowed="a multiple of mamba_n_heads", unless=inner % mamba_heads == 0)
    hidden = config.whole("intermediate_size")
    layer = attention(width, heads, kv_heads, head_size, bias="all" if config.flag("attention_bias") else "none")
    layer += mamba(
        width, heads=mamba_heads, head_size=inner // mamba_heads, state=config.whole("mamba_d_state"),
        groups=config.whole("mamba_n_groups"), kernel=config.whole("mamba_d_conv"),
        conv_bias=config.flag("mamba_conv_bias", True), bias=False, normed=config.flag("mamba_rms_norm"),
    )  # fmt: skip
    layer += feed_forward(width, hidden, bias=config.flag("mlp_bias")) + norms(2 * width)
    return config.architecture(
        [layer] * config.layers, tied=False, feed_forward=hidden, kv_heads=kv_heads, head_size=head_size
    )
