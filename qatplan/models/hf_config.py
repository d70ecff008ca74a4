"""Read a model's shape from a Hugging Face `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qatplan.errors import UsageError, shorten
from qatplan.models.architecture import LARGEST, Architecture

# What the configuration does not say because the model's code has it fixed.
_FAMILY_FACTS: dict[str, dict[str, Any]] = {
    **{family: {} for family in ("llama", "mistral", "smollm3", "mixtral")},
    **{family: {"query_key_norm": "head"} for family in ("qwen3", "qwen3_moe")},
    **{family: {"query_key_norm": "full"} for family in ("olmo2", "olmoe")},
    **{family: {"norms_per_layer": 4, "query_key_norm": "head"} for family in ("gemma3_text", "gemma3")},
    "qwen2": {"attention_bias": "qkv"},
    "olmo": {"norms_per_layer": 0},
    "gemma2": {"norms_per_layer": 4},
    "gpt_oss": {"attention_bias": "all", "attention_sinks": True, "expert_bias": True},
}

# What a file may leave out because transformers' configuration class has it as a default (Gemma3TextConfig in
# models/gemma3/configuration_gemma3.py): the files of the larger Gemma 3 models do.
_GEMMA_3_DEFAULTS: dict[str, Any] = {
    "vocab_size": 262_208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "sliding_window": 4096,
    "sliding_window_pattern": 6,
}  # fmt: skip
_DEFAULTS: dict[str, dict[str, Any]] = {"gemma3": _GEMMA_3_DEFAULTS, "gemma3_text": _GEMMA_3_DEFAULTS}

# Families whose configuration class ties the head unless the file says otherwise (transformers' own default is tied).
_UNTIED_BY_DEFAULT = frozenset(
    {"llama", "mistral", "mixtral", "olmo", "olmo2", "olmoe", "qwen2", "qwen3", "qwen3_moe", "gpt_oss"}
)


def from_config(config: Mapping[str, Any], *, name: str) -> Architecture:
    """Read a Hugging Face `config.json` (already parsed).

    Field names are those of `transformers`' configuration classes; a multimodal file's `text_config` is used. Raises
    UsageError that names a missing or unusable field, or a model type whose tensors we do not know.
    """
    family = shorten(str(config.get("model_type", "")))
    if isinstance(config.get("text_config"), Mapping):
        inner = config["text_config"]
        config = {**inner, "tie_word_embeddings": config.get("tie_word_embeddings", inner.get("tie_word_embeddings"))}
        family = shorten(str(config.get("model_type", family)))
    if family not in _FAMILY_FACTS:
        raise UsageError(
            f"{name}: model_type is {family or 'missing'!r}, but it must be one of {', '.join(sorted(_FAMILY_FACTS))}; "
            "other models can be described by --layers, --width and the other shape options."
        )
    config = {**_DEFAULTS.get(family, {}), **config}
    facts = dict(_FAMILY_FACTS[family])
    if family != "gpt_oss" and config.get("attention_bias") is True:
        facts["attention_bias"] = "all"
    layers, width, heads = (
        _whole(config, name, key) for key in ("num_hidden_layers", "hidden_size", "num_attention_heads")
    )
    experts = _whole(config, name, "num_local_experts", "num_experts", default=1)
    active = _whole(config, name, "num_experts_per_tok", "experts_per_token", default=1) if experts > 1 else 1
    expert_width = config.get("moe_intermediate_size") if experts > 1 else None
    local, window = _local_layers(config, layers, family, name)
    tied = config.get("tie_word_embeddings")
    return Architecture(
        name=name,
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=_whole(config, name, "num_key_value_heads", default=heads),
        head_size=_whole(config, name, "head_dim", default=width // heads),
        feed_forward=_whole(config, name, "moe_intermediate_size" if expert_width else "intermediate_size"),
        vocabulary=_whole(config, name, "vocab_size"),
        tied=family not in _UNTIED_BY_DEFAULT if tied is None else bool(tied),
        experts=experts,
        experts_active=active,
        local_layers=local,
        window=window,
        source=f"config.json of {name}",
        **facts,
    )


def _whole(config: Mapping[str, Any], name: str, *keys: str, default: int | None = None) -> int:
    """A whole number of at least 1 under the first of the keys that is given; required where there is no default."""
    key = next((key for key in keys if config.get(key) is not None), keys[0])
    value = config.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST:
        shown = shorten(repr(value)) if not isinstance(value, int) or abs(value) < 10**60 else "larger"
        raise UsageError(f"{name}: {key} is {shown}, but it must be a whole number from 1 to {LARGEST}.")
    return value


def _local_layers(config: Mapping[str, Any], layers: int, family: str, name: str) -> tuple[int, int]:
    """Number of sliding-window layers and their window in tokens, (0, 0) without any."""
    window = config.get("sliding_window")
    if not window or config.get("use_sliding_window") is False:
        return 0, 0
    if isinstance(kinds := config.get("layer_types"), list):
        local = sum(kind == "sliding_attention" for kind in kinds)
    elif config.get("sliding_window_pattern"):
        local = layers - layers // _whole(config, name, "sliding_window_pattern")
    elif family in ("gemma2", "gpt_oss"):
        local = layers - layers // 2  # alternating, local first
    else:
        local = layers
    return (local, _whole(config, name, "sliding_window")) if local else (0, 0)
