"""Shapes of public models, each from the `config.json` of the repository named beside it."""

from __future__ import annotations

from typing import Any

from qatplan.errors import UsageError
from qatplan.models.architecture import Architecture

_QWEN_3: dict[str, Any] = {"query_key_norm": "head"}
_QWEN_3_MOE: dict[str, Any] = {"query_key_norm": "head", "experts": 128, "experts_active": 8}
_OLMO_2: dict[str, Any] = {"query_key_norm": "full"}


def _gemma_3(local_layers: int, window: int) -> dict[str, Any]:
    return {"norms_per_layer": 4, "query_key_norm": "head", "local_layers": local_layers, "window": window}


def _gpt_oss(experts: int, local_layers: int) -> dict[str, Any]:
    biases = {"attention_bias": "all", "expert_bias": True, "attention_sinks": True}
    return {**biases, "experts": experts, "experts_active": 4, "local_layers": local_layers, "window": 128}


# name, repository on huggingface.co, (layers, width, heads, KV heads, head size, feed-forward, vocabulary, tied), rest
_ROWS: tuple[tuple[str, str, tuple[Any, ...], dict[str, Any]], ...] = (
    ("llama-3.2-1b", "meta-llama/Llama-3.2-1B", (16, 2048, 32, 8, 64, 8192, 128256, True), {}),
    ("llama-3.2-3b", "meta-llama/Llama-3.2-3B", (28, 3072, 24, 8, 128, 8192, 128256, True), {}),
    ("llama-3-8b", "meta-llama/Meta-Llama-3-8B", (32, 4096, 32, 8, 128, 14336, 128256, False), {}),
    ("llama-3.1-8b", "meta-llama/Llama-3.1-8B", (32, 4096, 32, 8, 128, 14336, 128256, False), {}),
    ("llama-3.1-70b", "meta-llama/Llama-3.1-70B", (80, 8192, 64, 8, 128, 28672, 128256, False), {}),
    ("llama-3.1-405b", "meta-llama/Llama-3.1-405B", (126, 16384, 128, 8, 128, 53248, 128256, False), {}),
    ("qwen3-0.6b", "Qwen/Qwen3-0.6B", (28, 1024, 16, 8, 128, 3072, 151936, True), _QWEN_3),
    ("qwen3-1.7b", "Qwen/Qwen3-1.7B", (28, 2048, 16, 8, 128, 6144, 151936, True), _QWEN_3),
    ("qwen3-4b", "Qwen/Qwen3-4B", (36, 2560, 32, 8, 128, 9728, 151936, True), _QWEN_3),
    ("qwen3-8b", "Qwen/Qwen3-8B", (36, 4096, 32, 8, 128, 12288, 151936, False), _QWEN_3),
    ("qwen3-14b", "Qwen/Qwen3-14B", (40, 5120, 40, 8, 128, 17408, 151936, False), _QWEN_3),
    ("qwen3-32b", "Qwen/Qwen3-32B", (64, 5120, 64, 8, 128, 25600, 151936, False), _QWEN_3),
    ("qwen3-30b-a3b", "Qwen/Qwen3-30B-A3B", (48, 2048, 32, 4, 128, 768, 151936, False), _QWEN_3_MOE),
    ("gemma-3-1b", "google/gemma-3-1b-pt", (26, 1152, 4, 1, 256, 6912, 262144, True), _gemma_3(22, 512)),
    ("gemma-3-4b", "google/gemma-3-4b-pt", (34, 2560, 8, 4, 256, 10240, 262208, True), _gemma_3(29, 1024)),
    ("gemma-3-12b", "google/gemma-3-12b-pt", (48, 3840, 16, 8, 256, 15360, 262208, True), _gemma_3(40, 1024)),
    ("gemma-3-27b", "google/gemma-3-27b-pt", (62, 5376, 32, 16, 128, 21504, 262208, True), _gemma_3(52, 1024)),
    ("smollm2-135m", "HuggingFaceTB/SmolLM2-135M", (30, 576, 9, 3, 64, 1536, 49152, True), {}),
    ("smollm2-360m", "HuggingFaceTB/SmolLM2-360M", (32, 960, 15, 5, 64, 2560, 49152, True), {}),
    ("smollm2-1.7b", "HuggingFaceTB/SmolLM2-1.7B", (24, 2048, 32, 32, 64, 8192, 49152, True), {}),
    ("smollm3-3b", "HuggingFaceTB/SmolLM3-3B", (36, 2048, 16, 4, 128, 11008, 128256, True), {}),
    ("olmo-2-1b", "allenai/OLMo-2-0425-1B", (16, 2048, 16, 16, 128, 8192, 100352, False), _OLMO_2),
    ("olmo-2-7b", "allenai/OLMo-2-1124-7B", (32, 4096, 32, 32, 128, 11008, 100352, False), _OLMO_2),
    ("olmo-2-13b", "allenai/OLMo-2-1124-13B", (40, 5120, 40, 40, 128, 13824, 100352, False), _OLMO_2),
    ("olmo-2-32b", "allenai/OLMo-2-0325-32B", (64, 5120, 40, 8, 128, 27648, 100352, False), _OLMO_2),
    ("gpt-oss-20b", "openai/gpt-oss-20b", (24, 2880, 64, 8, 64, 2880, 201088, False), _gpt_oss(32, 12)),
    ("gpt-oss-120b", "openai/gpt-oss-120b", (36, 2880, 64, 8, 64, 2880, 201088, False), _gpt_oss(128, 18)),
)


_SHAPE = ("layers", "width", "heads", "kv_heads", "head_size", "feed_forward", "vocabulary", "tied")
PRESETS: dict[str, Architecture] = {
    name: Architecture(
        name=name,
        source=f"https://huggingface.co/{repository}/blob/main/config.json",
        **dict(zip(_SHAPE, shape, strict=True)),
        **rest,
    )
    for name, repository, shape, rest in _ROWS
}
"""Name to shape; `preset` looks names up without regard to case."""
_REPOSITORIES = {repository.lower(): name for name, repository, _, _ in _ROWS}


def preset(name: str) -> Architecture:
    """The public model of that name or repository (`Qwen/Qwen3-8B`); case does not matter.

    Raises UsageError with the names there are.
    """
    found = PRESETS.get(_REPOSITORIES.get(name.lower(), name.lower()))
    if found is None:
        raise UsageError(f"{name!r} is neither a file nor one of the models known here: {', '.join(PRESETS)}.")
    return found
