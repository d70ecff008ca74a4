"""Families with grouped-query attention and gated feed-forward layers, dense or of experts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from qatplan.models.architecture import Architecture
from qatplan.models.families.config import Config
from qatplan.models.layers import Bias, attention, feed_forward, norms

_SLIDING, _FULL = "sliding_attention", "full_attention"


@dataclass(frozen=True, kw_only=True, slots=True)
class Traits:
    """What a family's modeling file has fixed."""

    norms: int = 2
    query_key_norm: Literal["none", "head", "full"] = "none"
    bias: Bias = "none"
    """Biases of the attention where `bias_key` is true or not given (and `bias_default`)."""
    bias_key: str = ""
    bias_default: bool = False
    fused: bool = False
    """Query, key and value in one matrix, gate and up in another (Phi-3)."""
    norm_bias: bool = False
    sinks: bool = False
    tied: bool = False
    final_norm: bool = True
    head_size: int = 0
    """Default of the configuration class; 0 for width / heads."""
    windows: Callable[[Config], list[str] | None] = lambda config: None
    """Kinds of layers where the file has no `layer_types`."""
    hidden: tuple[str, ...] = ("intermediate_size",)
    """Key of the dense feed-forward width."""


def every(config: Config) -> list[str] | None:
    """A window, where there is one, is every layer's."""
    return [_SLIDING] * config.layers if config.get("sliding_window") else None


def all_but_each(period: int, key: str = "") -> Callable[[Config], list[str] | None]:
    """Every `period`-th layer sees the whole context (or as often as the file's `key` says)."""

    def kinds(config: Config) -> list[str] | None:
        step = config.whole(key, f"_{key}", default=period) if key else period
        return [_SLIDING if (i + 1) % step else _FULL for i in range(config.layers)]

    return kinds


def _qwen(config: Config) -> list[str] | None:
    """Windows begin at layer `max_window_layers`, which these classes put at 28 (Qwen2Config)."""
    if not config.flag("use_sliding_window"):
        return None
    first = config.whole("max_window_layers", default=28, least=0)
    return [_SLIDING if i >= first else _FULL for i in range(config.layers)]


def _qwen2_moe(config: Config) -> list[str] | None:
    """Every other layer below `max_window_layers` has a window (Qwen2MoeConfig)."""
    if not config.flag("use_sliding_window"):
        return None
    last = config.whole("max_window_layers", default=28, least=0)
    return [_SLIDING if (i + 1) % 2 and i < last else _FULL for i in range(config.layers)]


def _qwen3_moe(config: Config) -> list[str] | None:
    return every(config) if config.flag("use_sliding_window") else None


def _llama4(config: Config) -> list[str] | None:
    """Layers with rotary positions see chunks of the context; every fourth has none and sees all."""
    rotary = config.get("no_rope_layers") or []
    period = config.whole("no_rope_layer_interval", default=4)
    uses = rotary if isinstance(rotary, list) and rotary else [(i + 1) % period for i in range(config.layers)]
    config.refuse("no_rope_layers", allowed="one number for each layer", unless=len(uses) == config.layers)
    return ["chunked_attention" if use else _FULL for use in uses]


_QUERY_KEY = Traits(query_key_norm="head", bias="all", bias_key="attention_bias")
_LLAMA = Traits(bias="all", bias_key="attention_bias")
_MISTRAL = Traits(windows=every)
_OLMO_2 = Traits(query_key_norm="full", bias="all", bias_key="attention_bias")
_QWEN_2 = Traits(bias="qkv", bias_default=True, windows=_qwen)
_QWEN_3 = Traits(query_key_norm="head", bias="all", bias_key="attention_bias", head_size=128, windows=_qwen)
_QWEN_3_MOE = Traits(query_key_norm="head", bias="all", bias_key="attention_bias", windows=_qwen3_moe)
_GEMMA_2 = Traits(
    norms=4, bias="all", bias_key="attention_bias", tied=True, head_size=256, windows=all_but_each(2)
)  # fmt: skip
_GEMMA_3 = Traits(
    norms=4, query_key_norm="head", bias="all", bias_key="attention_bias", tied=True, head_size=256,
    windows=all_but_each(6, "sliding_window_pattern"),
)  # fmt: skip
TRAITS: dict[str, Traits] = {
    "llama": _LLAMA,
    "mistral": _MISTRAL,
    "ministral": _MISTRAL,
    "ministral3": _MISTRAL,
    "mixtral": _MISTRAL,
    "smollm3": Traits(bias="all", bias_key="attention_bias", tied=True, windows=_qwen3_moe),
    "granite": _LLAMA,
    "qwen2": _QWEN_2,
    "qwen2_vl": _QWEN_2,
    "qwen2_vl_text": _QWEN_2,
    "qwen2_5_vl": _QWEN_2,
    "qwen2_5_vl_text": _QWEN_2,
    "qwen2_moe": Traits(bias="qkv", bias_key="qkv_bias", bias_default=True, windows=_qwen2_moe),
    "qwen3": _QWEN_3,
    "qwen3_moe": _QWEN_3_MOE,
    "qwen3_vl_text": Traits(query_key_norm="head", bias="all", bias_key="attention_bias", head_size=128),
    "qwen3_vl_moe_text": _QUERY_KEY,
    "phi3": Traits(fused=True, windows=every),
    "phimoe": Traits(bias="all", bias_key="attention_bias", norm_bias=True, windows=every),
    "gemma": Traits(bias="all", bias_key="attention_bias", tied=True, head_size=256),
    "gemma2": _GEMMA_2,
    "gemma3": _GEMMA_3,
    "gemma3_text": _GEMMA_3,
    "olmo": Traits(norms=0, bias="all", bias_key="attention_bias", final_norm=False),
    "olmo2": _OLMO_2,
    "olmo3": Traits(query_key_norm="full", bias="all", bias_key="attention_bias", windows=all_but_each(4)),
    "olmoe": _OLMO_2,
    "gpt_oss": Traits(
        bias="all", bias_key="attention_bias", bias_default=True, sinks=True, head_size=64, windows=all_but_each(2)
    ),
    "llama4_text": Traits(
        bias="all", bias_key="attention_bias", windows=_llama4, hidden=("intermediate_size_mlp",), head_size=128
    ),
    "glm4": Traits(norms=4, bias="qkv", bias_key="attention_bias", fused=False, head_size=128),
    "glm4_moe": Traits(bias="qkv", bias_key="attention_bias", head_size=128),
    "minimax_m2": Traits(query_key_norm="full"),
}


def grouped(config: Config) -> Architecture:
    """Read one of the families in `TRAITS`."""
    traits = TRAITS[config.family]
    width, heads, kv_heads = config.width, config.heads, config.kv_heads()
    head_size = config.head_size(traits.head_size)
    count, active = experts_of(config)
    hidden = config.whole(*traits.hidden) if count == 1 or config.get(traits.hidden[0]) is not None else 0
    routed = routed_layers(config, count)
    per_expert = expert_width(config) if any(routed) else hidden
    has_bias = config.flag(traits.bias_key, traits.bias_default) if traits.bias_key else traits.bias_default
    norm = traits.query_key_norm
    if config.family == "glm4_moe" and config.flag("use_qk_norm"):
        norm = "head"
    layers = []
    for window, of_experts in zip(config.windows(traits.windows(config)), routed, strict=True):
        mixer = attention(
            width, heads, kv_heads, head_size, window=window, bias=traits.bias if has_bias else "none",
            query_key_norm=norm, sinks=traits.sinks, fused=traits.fused,
        )  # fmt: skip
        if of_experts:
            forward = feed_forward(
                width, per_expert, experts=count, router=True, bias=config.family == "gpt_oss", shared=shared(config),
                shared_gate=config.family == "qwen2_moe",
            )  # fmt: skip
        else:
            fused = traits.fused or config.family == "glm4"
            forward = feed_forward(width, dense_width(config, hidden), fused=fused, bias=config.flag("mlp_bias"))
        layers.append(mixer + forward + norms(traits.norms * width, bias=traits.norm_bias))
    outside = norms(width, bias=True).tensors[1:] if traits.norm_bias else ()
    return config.architecture(
        layers, tied=traits.tied, feed_forward=per_expert, kv_heads=kv_heads, head_size=head_size, experts=count,
        active=active, outside=outside, final_norm=traits.final_norm,
    )  # fmt: skip


def dense_width(config: Config, hidden: int) -> int:
    """The dense feed-forward width, which a file with dense layers must give."""
    config.refuse("intermediate_size", allowed="a whole number, which its dense layers need,", unless=hidden > 0)
    return hidden


_EXPERTS = ("n_routed_experts", "num_local_experts", "num_experts")


def experts_of(config: Config) -> tuple[int, int]:
    """(Experts, of which a token passes through)."""
    count = config.whole(*_EXPERTS, default=1, least=0) or 1
    if count == 1:
        return 1, 1
    return count, config.whole("num_experts_per_tok", "experts_per_token")


def expert_width(config: Config) -> int:
    """Hidden width of one expert."""
    return config.whole("moe_intermediate_size", "intermediate_size")


def shared(config: Config) -> int:
    """Hidden units for every token: of a shared expert's own width, or as many experts' as `n_shared_experts`."""
    if config.family == "llama4_text":
        return config.whole("intermediate_size")
    if config.get("shared_expert_intermediate_size") is not None:
        return config.whole("shared_expert_intermediate_size", least=0)
    return config.whole("n_shared_experts", default=0, least=0) * expert_width(config)


def routed_layers(config: Config, count: int) -> list[bool]:
    """Which layers have experts; in each family's own words."""
    layers = range(config.layers)
    if count == 1:
        return [False for _ in layers]
    if (kinds := config.one_per_layer("mlp_layer_types", frozenset({"dense", "sparse"}))) is not None:
        return [kind == "sparse" for kind in kinds]
    if (listed := config.numbers("moe_layers")) is not None:
        return [i in listed for i in layers]
    if config.get("interleave_moe_layer_step") is not None:
        step = config.whole("interleave_moe_layer_step")
        return [(i + 1) % step == 0 for i in layers]
    dense, step = config.numbers("mlp_only_layers") or frozenset(), config.whole("decoder_sparse_step", default=1)
    first, frequency = (
        config.whole("first_k_dense_replace", default=0, least=0),
        config.whole("moe_layer_freq", default=1),
    )
    return [i not in dense and (i + 1) % step == 0 and i >= first and i % frequency == 0 for i in layers]
