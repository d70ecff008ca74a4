"""Parameters of models as transformers builds them without weights: a reference for the readers of `config.json`.

Each entry of the written JSON names a configuration class, the values given to it (all others are the class's own
defaults), the fields that the file would have, and the number of parameters of the causal language model, a tied head
counted once. It needs `pip install transformers torch`:

    python benchmarks/count_parameters.py tests/reference/parameter_counts.json
"""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Values as in the public files of the models named; without any, the class's defaults.
_QWEN_2_5_7B = {
    "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
    "num_key_value_heads": 4, "vocab_size": 152064,
}  # fmt: skip
_KIMI_K2 = {
    "num_attention_heads": 64, "num_key_value_heads": 64, "n_routed_experts": 384, "first_k_dense_replace": 1,
    "vocab_size": 163840,
}  # fmt: skip
_SMALL = {"hidden_size": 512, "num_attention_heads": 8}
CASES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("llama", "LlamaConfig", {}),
    ("llama-biased", "LlamaConfig", {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 8}),
    ("phi-3-mini", "Phi3Config", {}),
    ("phi-4", "Phi3Config", {"hidden_size": 5120, "intermediate_size": 17920, "num_hidden_layers": 40,
                             "num_attention_heads": 40, "num_key_value_heads": 10, "vocab_size": 100352}),
    ("phi-2", "PhiConfig", {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 32}),
    ("phimoe", "PhimoeConfig", {}),
    ("phimoe-biased", "PhimoeConfig", {"attention_bias": True}),
    ("qwen2", "Qwen2Config", {}),
    ("qwen2.5-7b", "Qwen2Config", _QWEN_2_5_7B),
    ("qwen2.5-windows", "Qwen2Config", {**_QWEN_2_5_7B, "use_sliding_window": True, "sliding_window": 1024,
                                        "max_window_layers": 21}),
    ("qwen2.5-vl", "Qwen2_5_VLTextConfig", {}),
    ("qwen2-moe", "Qwen2MoeConfig", {}),
    ("qwen2-moe-sparse", "Qwen2MoeConfig", {"mlp_only_layers": [3], "decoder_sparse_step": 2}),
    ("qwen3", "Qwen3Config", {}),
    ("qwen3-biased", "Qwen3Config", {"attention_bias": True, "tie_word_embeddings": True}),
    ("qwen3-moe", "Qwen3MoeConfig", {"mlp_only_layers": [0, 5], "decoder_sparse_step": 2}),
    ("qwen3-vl", "Qwen3VLTextConfig", {}),
    ("qwen3-vl-moe", "Qwen3VLMoeTextConfig", {}),
    ("gemma", "GemmaConfig", {}),
    ("gemma-2-2b", "Gemma2Config", {}),
    ("gemma-3", "Gemma3TextConfig", {}),
    ("gemma-3n", "Gemma3nTextConfig", {}),
    ("llama-4-scout", "Llama4TextConfig", {}),
    ("llama-4-interleaved", "Llama4TextConfig", {"interleave_moe_layer_step": 2, "num_local_experts": 128}),
    ("mistral", "MistralConfig", {}),
    ("ministral-3", "Ministral3Config", {}),
    ("mixtral-8x7b", "MixtralConfig", {}),
    ("olmo", "OlmoConfig", {}),
    ("olmo-2", "Olmo2Config", {}),
    ("olmo-3", "Olmo3Config", {}),
    ("olmoe", "OlmoeConfig", {}),
    ("gpt-oss-120b", "GptOssConfig", {}),
    ("smollm3-3b", "SmolLM3Config", {}),
    ("granite", "GraniteConfig", {}),
    ("deepseek-v2", "DeepseekV2Config", {"first_k_dense_replace": 1, "num_experts_per_tok": 6}),
    ("deepseek-v2-lite", "DeepseekV2Config", {
        "hidden_size": 2048, "intermediate_size": 10944, "moe_intermediate_size": 1408, "num_hidden_layers": 27,
        "num_attention_heads": 16, "num_key_value_heads": 16, "q_lora_rank": None, "first_k_dense_replace": 1,
        "num_experts_per_tok": 6}),
    ("deepseek-v3", "DeepseekV3Config", {}),
    ("deepseek-v3-biased", "DeepseekV3Config", {"attention_bias": True}),
    ("kimi-k2", "DeepseekV3Config", _KIMI_K2),
    ("glm-4-9b", "Glm4Config", {}),
    ("glm-4.5-air", "Glm4MoeConfig", {"head_dim": 128, "attention_bias": True}),
    ("glm-4.5", "Glm4MoeConfig", {
        "hidden_size": 5120, "intermediate_size": 12288, "moe_intermediate_size": 1536, "num_hidden_layers": 92,
        "n_routed_experts": 160, "first_k_dense_replace": 3, "head_dim": 128, "attention_bias": True,
        "use_qk_norm": True}),
    ("minimax-text", "MiniMaxConfig", {"head_dim": 128}),
    ("minimax-m2", "MiniMaxM2Config", {}),
    ("gpt2", "GPT2Config", {}),
    ("gpt2-xl", "GPT2Config", {"n_embd": 1600, "n_layer": 48, "n_head": 25}),
    ("gpt-neox-20b", "GPTNeoXConfig", {}),
    ("gpt-neox-tied", "GPTNeoXConfig", {**_SMALL, "intermediate_size": 2048, "num_hidden_layers": 6,
                                        "attention_bias": False, "tie_word_embeddings": True}),
    ("opt-125m", "OPTConfig", {}),
    ("opt-unbiased", "OPTConfig", {"enable_bias": False, "do_layer_norm_before": True, "num_hidden_layers": 4}),
    ("bloom-560m", "BloomConfig", {"hidden_size": 1024, "n_layer": 24, "n_head": 16}),
    ("starcoder", "GPTBigCodeConfig", {"n_embd": 6144, "n_layer": 40, "n_head": 48, "n_positions": 8192,
                                       "n_inner": 24576, "vocab_size": 49152}),
    ("gpt-bigcode-many-keys", "GPTBigCodeConfig", {"multi_query": False}),
    ("starcoder2-3b", "Starcoder2Config", {}),
    ("falcon-7b", "FalconConfig", {}),
    ("falcon-newer", "FalconConfig", {"new_decoder_architecture": True, "hidden_size": 8192, "num_hidden_layers": 60,
                                      "num_attention_heads": 128, "num_kv_heads": 8, "ffn_hidden_size": 32768}),
    ("falcon-older", "FalconConfig", {"multi_query": False, "parallel_attn": False, "bias": True, "alibi": True,
                                      "hidden_size": 2048, "num_attention_heads": 32, "num_hidden_layers": 24,
                                      "ffn_hidden_size": 8192}),
    ("nemotron-h", "NemotronHConfig", {"layers_block_type": ["linear_attention", "mlp"] * 12 +
                                       ["full_attention", "mlp"] * 2}),
    ("nemotron-h-experts", "NemotronHConfig", {}),
    ("qwen3-next-80b", "Qwen3NextConfig", {}),
    ("qwen3-next-dense-first", "Qwen3NextConfig", {"mlp_only_layers": [0, 1]}),
    ("qwen3.5", "Qwen3_5TextConfig", {}),
    ("qwen3.5-moe", "Qwen3_5MoeTextConfig", {}),
    ("falcon-h1", "FalconH1Config", {}),
    ("falcon-h1-normed", "FalconH1Config", {"mamba_rms_norm": True, "num_hidden_layers": 4}),
)  # fmt: skip
# Fields of the file that say nothing about the shape.
_LEFT_OUT = (
    "dropout", "drop", "rope_parameters", "rope_interleave", "token_id", "init", "eps", "activation", "hidden_act",
    "aux_loss", "use_cache", "version", "architectures", "multiplier", "time_step", "summary", "router_logits",
    "softcapping", "scaling", "topk", "jitter", "_factor", "cross_", "sparsity", "max_window_chunk", "swiglu",
)  # fmt: skip


def count(name: str, class_name: str, values: dict[str, Any]) -> dict[str, Any]:
    """One entry of the file."""
    import torch

    transformers = importlib.import_module("transformers")
    config = getattr(transformers, class_name)(**values)
    with torch.device("meta"):
        model = _language_model(transformers, config)
    fields = {
        key: value
        for key, value in json.loads(json.dumps(config.to_diff_dict())).items()
        if not any(part in key for part in _LEFT_OUT)
    }
    counted = sum(parameter.numel() for parameter in model.parameters())
    return {"name": name, "class": class_name, "given": values, "config": fields, "parameters": counted}


def _language_model(transformers: Any, config: Any) -> Any:
    """The causal model of a text configuration; of the vision models, their text model with a head of its own."""
    import torch

    kind = type(config).__name__
    if "VL" not in kind:
        return transformers.AutoModelForCausalLM.from_config(config)
    body = getattr(transformers, kind.replace("TextConfig", "TextModel"))(config)
    head = torch.nn.Linear(config.hidden_size, config.vocab_size, bias=False)
    return torch.nn.ModuleList([body] if getattr(config, "tie_word_embeddings", False) else [body, head])


def main(arguments: Sequence[str] | None = None) -> None:
    """Count all cases and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path, help="JSON file to write")
    target: Path = parser.parse_args(arguments).target
    transformers = importlib.import_module("transformers")
    entries = [count(*case) for case in CASES]
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    target.write_text(f'{{"transformers": "{transformers.__version__}", "models": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
