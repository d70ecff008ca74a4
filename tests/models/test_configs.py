"""Shapes read from `config.json` against parameter counts of transformers, caches against published sizes."""

import json
from pathlib import Path
from typing import Any

import pytest

from qatplan.errors import UsageError
from qatplan.models.hf_config import from_config
from qatplan.models.layout import of_architecture
from qatplan.models.memory import estimate

# Written by benchmarks/count_parameters.py.
COUNTED = json.loads((Path(__file__).parents[1] / "reference" / "parameter_counts.json").read_text())["models"]
CONFIGS: dict[str, dict[str, Any]] = {entry["name"]: entry["config"] for entry in COUNTED}


@pytest.mark.parametrize("entry", COUNTED, ids=lambda entry: entry["name"])
def test_parameters_are_those_that_transformers_counts(entry: dict[str, Any]) -> None:
    layout = of_architecture(from_config(entry["config"], name=entry["name"]))
    assert int(layout.parameters) == entry["parameters"]
    assert 0 < layout.active_matrix_weights <= layout.parameters


def windows(name: str, **changes: Any) -> list[int]:
    return [block.window for block in from_config({**CONFIGS[name], **changes}, name=name).blocks]


def test_windows_are_those_that_the_file_says() -> None:
    assert windows("qwen2.5-windows") == [0] * 21 + [1024] * 7
    assert windows("qwen2.5-windows", layer_types=None) == [0] * 21 + [1024] * 7
    assert set(windows("qwen2.5-windows", use_sliding_window=False)) == {0}
    assert windows("llama-4-scout") == windows("llama-4-scout", layer_types=None) == [8192, 8192, 8192, 0] * 12
    with pytest.raises(UsageError, match="layer_types is"):
        windows("gemma-3", layer_types=["full_attention"])


@pytest.mark.parametrize(("name", "layers"), [("deepseek-v3", 61), ("kimi-k2", 61), ("deepseek-v2-lite", 27)])
def test_a_latent_cache_holds_576_values_for_a_token_and_layer(name: str, layers: int) -> None:
    """512 of the latent vector and 64 with positions (arXiv 2405.04434, section 2.1), not two for every head."""
    memory = estimate(from_config(CONFIGS[name], name=name), form="bf16", context=4096)
    assert memory.kv_bytes == 2 * 576 * layers * 4096


def test_recurrent_layers_keep_a_state_and_no_keys() -> None:
    """Qwen3-Next: 36 of 48 layers, 32 states of 128 x 128 and the last 3 inputs of 8,192 convolved channels."""
    shape = from_config(CONFIGS["qwen3-next-80b"], name="next")
    short, long = (estimate(shape, form="bf16", context=context) for context in (1024, 8192))
    assert short.bytes_of("state") == long.bytes_of("state") == 4 * 36 * (32 * 128 * 128 + 3 * 8192)
    assert long.kv_bytes == 12 * 2 * 2 * 256 * 2 * 8192
    assert long.weights_bytes + long.kv_bytes + long.bytes_of("state", "workspace") == long.total_bytes


def test_late_layers_of_gemma_3n_read_the_keys_of_earlier_ones() -> None:
    blocks = from_config(CONFIGS["gemma-3n"], name="3n").blocks
    assert [bool(block.cache) for block in blocks] == [True] * 20 + [False] * 15


def test_a_quantization_is_named_and_a_nested_text_part_read() -> None:
    said = {"text_config": CONFIGS["qwen3"], "quantization_config": {"quant_method": "gptq", "bits": 4}}
    memory = estimate(from_config(said, name="nested"), form="int4")
    assert any("quantization_config: gptq of 4 bits" in line for line in memory.assumptions)


def test_patterns_of_letters_name_layers() -> None:
    written = CONFIGS["nemotron-h"]
    letters = {**written, "layers_block_type": None, "hybrid_override_pattern": "M-" * 12 + "*-" * 2}
    assert from_config(letters, name="h").blocks == from_config(written, name="h").blocks
    with pytest.raises(UsageError, match="must name each of the"):
        from_config({**letters, "hybrid_override_pattern": "M?"}, name="h")


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("opt-125m", {"word_embed_proj_dim": 512}, "word_embed_proj_dim is 512"),
        ("deepseek-v3", {"kv_lora_rank": None}, "kv_lora_rank is None"),
        ("qwen2-moe", {"mlp_only_layers": "all"}, "mlp_only_layers is 'all'"),
        ("phi-2", {"qk_layernorm": True}, "qk_layernorm is True"),
        ("qwen3", {"attention_bias": "yes"}, "attention_bias is 'yes'"),
    ],
)
def test_what_is_not_understood_is_refused_by_field(name: str, change: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        from_config({**CONFIGS[name], **change}, name=name)


def test_mixtures_are_refused_where_the_types_are_not_known() -> None:
    for name in ("deepseek-v3", "falcon-7b", "qwen3-next-80b"):
        with pytest.raises(UsageError, match="is not followed here"):
            estimate(from_config(CONFIGS[name], name=name), form="Q4_K_M")
    phi = estimate(from_config(CONFIGS["phi-3-mini"], name="phi"), form="Q4_K_M")
    assert phi.tensor_bytes > 0
