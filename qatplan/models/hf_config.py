"""Read a model's shape from a Hugging Face `config.json`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from qatplan.errors import UsageError, shorten
from qatplan.models.architecture import Architecture
from qatplan.models.families import gemma3n, hybrid, latent, older
from qatplan.models.families.config import Config
from qatplan.models.families.grouped import TRAITS, grouped

_READERS: Final[dict[str, Callable[[Config], Architecture]]] = {
    **dict.fromkeys(TRAITS, grouped),
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "kimi_k2"), latent.deepseek),
    **dict.fromkeys(("gpt2", "gpt_bigcode"), older.gpt2),
    "gpt_neox": older.neox,
    "opt": older.opt,
    "bloom": older.bloom,
    "starcoder2": older.starcoder2,
    "falcon": older.falcon,
    "phi": older.phi,
    "gemma3n_text": gemma3n.gemma3n,
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), hybrid.qwen_next),
    "minimax": hybrid.minimax,
    "nemotron_h": hybrid.nemotron_h,
    "falcon_h1": hybrid.falcon_h1,
}

# What a file may leave out because transformers' configuration class has it as a default (Gemma3TextConfig in
# models/gemma3/configuration_gemma3.py): the files of the larger Gemma 3 models do.
_GEMMA_3_DEFAULTS: Final[dict[str, Any]] = {
    "vocab_size": 262_208, "num_attention_heads": 8, "num_key_value_heads": 4, "sliding_window": 4096,
}  # fmt: skip
_DEFAULTS: Final[dict[str, dict[str, Any]]] = {"gemma3": _GEMMA_3_DEFAULTS, "gemma3_text": _GEMMA_3_DEFAULTS}
_OUTER: Final = ("tie_word_embeddings", "quantization_config")


def from_config(config: Mapping[str, Any], *, name: str) -> Architecture:
    """Read a Hugging Face `config.json` (already parsed).

    Field names are those of `transformers`' configuration classes; a multimodal file's `text_config` is used. Raises
    UsageError that names a missing or unusable field, or a model type whose tensors we do not know.
    """
    family = shorten(str(config.get("model_type", "")))
    if isinstance(config.get("text_config"), Mapping):
        inner = config["text_config"]
        config = {**inner, **{key: config[key] for key in _OUTER if config.get(key) is not None}}
        family = shorten(str(config.get("model_type", family)))
    reader = _READERS.get(family)
    if reader is None:
        raise UsageError(
            f"{name}: model_type is {family or 'missing'!r}, but it must be one of {', '.join(sorted(_READERS))}; "
            "other models can be described by --layers, --width and the other shape options."
        )
    return reader(Config(name=name, family=family, fields={**_DEFAULTS.get(family, {}), **config}))
