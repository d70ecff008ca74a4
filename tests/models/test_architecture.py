"""Parameter counts against published ones, `config.json` against presets, and shapes that cannot be."""

from collections import Counter

import pytest

from qatplan.errors import UsageError
from qatplan.models.architecture import Architecture
from qatplan.models.hf_config import from_config
from qatplan.models.layers import MATRIX_KINDS
from qatplan.models.layout import of_architecture
from qatplan.models.presets import PRESETS, preset

# Whole numbers: the parameters listed beside the files in tests/reference/model_files.csv. Rounded ones (billions): the
# Llama 3 paper (arXiv 2407.21783) and the model cards on huggingface.co.
PUBLISHED = {
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "llama-3.1-8b": 8_030_261_248,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "gemma-3-1b": 999_885_952,
    "gemma-3-12b": 11_766_034_176,
    "smollm2-135m": 134_515_008,
}
ROUNDED = {
    "llama-3.1-405b": "405.9",
    "olmo-2-7b": "7.3",
    "olmo-2-13b": "13.7",
    "olmo-2-32b": "32.2",
    "smollm3-3b": "3.1",
    "smollm2-1.7b": "1.7",
    "llama-3.1-70b": "70.6",
    "qwen3-32b": "32.8",
    "qwen3-30b-a3b": "30.5",
}


@pytest.mark.parametrize(("name", "billions"), ROUNDED.items())
def test_rounded_totals(name: str, billions: str) -> None:
    assert f"{of_architecture(preset(name)).parameters / 1e9:.1f}" == billions


@pytest.mark.parametrize(("name", "total"), PUBLISHED.items())
def test_total_parameters_are_the_published_ones(name: str, total: int) -> None:
    assert of_architecture(preset(name)).parameters == total


@pytest.mark.parametrize(
    ("name", "total", "active", "feed_forward", "attention"),
    [("gpt-oss-20b", 20.91, 3.61, 19.12, 0.64), ("gpt-oss-120b", 116.83, 5.13, 114.71, 0.96)],
)
def test_mixture_of_experts_by_group(
    name: str, total: float, active: float, feed_forward: float, attention: float
) -> None:
    """arXiv 2508.10925, table 1, in billions; it counts biases with their layers, so groups agree to 0.1 billion."""
    counted = of_architecture(preset(name))
    assert round(counted.parameters / 1e9, 2) == total
    assert round(counted.active_matrix_weights / 1e9, 2) == active
    found: Counter[bool] = Counter()
    for tensor in preset(name).tensors():
        if tensor.kind in MATRIX_KINDS:
            found[tensor.count > 1] += tensor.size
    assert found[True] / 1e9 == pytest.approx(feed_forward, abs=0.06)
    assert found[False] / 1e9 == pytest.approx(attention, abs=0.01)


def test_groups_add_up_and_tensors_are_the_parameters() -> None:
    for shape in PRESETS.values():
        counted = of_architecture(shape)
        matrices = sum(matrix.rows * matrix.cols for matrix in counted.matrices)
        assert sum(tensor.size for tensor in shape.tensors()) == counted.parameters
        assert counted.nonembedding == matrices + counted.other
        assert counted.parameters == counted.nonembedding + counted.embedding + counted.head
        assert 0 < counted.active_matrix_weights <= counted.parameters
        assert shape.source.startswith("https://huggingface.co/")


QWEN3_MOE = {
    "model_type": "qwen3_moe",
    "num_hidden_layers": 48,
    "hidden_size": 2048,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "vocab_size": 151936,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "sliding_window": None,
}
LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 16,
    "hidden_size": 2048,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "intermediate_size": 8192,
    "vocab_size": 128256,
    "tie_word_embeddings": True,
    "attention_bias": False,
}
GEMMA = {
    "model_type": "gemma3",
    "text_config": {
        "model_type": "gemma3_text",
        "num_hidden_layers": 48,
        "hidden_size": 3840,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 256,
        "intermediate_size": 15360,
        "vocab_size": 262208,
        "sliding_window": 1024,
        "sliding_window_pattern": 6,
    },
}
GPT_OSS = {
    "model_type": "gpt_oss",
    "num_hidden_layers": 24,
    "hidden_size": 2880,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "intermediate_size": 2880,
    "vocab_size": 201088,
    "num_local_experts": 32,
    "num_experts_per_tok": 4,
    "sliding_window": 128,
    "tie_word_embeddings": False,
    "attention_bias": True,
    "layer_types": ["sliding_attention", "full_attention"] * 12,
}


# The files of the larger Gemma 3 models name only what differs from the defaults of transformers' Gemma3TextConfig.
SPARSE_GEMMA = {
    "model_type": "gemma3",
    "text_config": {
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "sliding_window": 1024,
    },
}
OLMO = {
    "model_type": "olmo2",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "intermediate_size": 11008,
    "vocab_size": 100352,
    "tie_word_embeddings": False,
    "attention_bias": False,
}


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (SPARSE_GEMMA, "gemma-3-4b"),
        (OLMO, "olmo-2-7b"),
        (QWEN3_MOE, "qwen3-30b-a3b"),
        (LLAMA, "llama-3.2-1b"),
        (GEMMA, "gemma-3-12b"),
        (GPT_OSS, "gpt-oss-20b"),
    ],
)
def test_config_file_gives_the_preset(config: dict[str, object], name: str) -> None:
    read, known = from_config(config, name=name), preset(name)
    assert list(read.tensors()) == list(known.tensors())
    assert read.tied == known.tied
    assert sorted(b.window for b in read.blocks) == sorted(b.window for b in known.blocks)
    assert sum(b.cache for b in read.blocks) == sum(b.cache for b in known.blocks)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "mamba"}, "model_type is 'mamba'"),
        ({"hidden_size": None}, "hidden_size is None"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_key_value_heads": 5}, "kv_heads 5 does not divide"),
        ({"head_dim": "64"}, "head_dim is '64'"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers is 1000000, but it must be a whole number from 1 to 10000"),
        ({"model_type": "mistral", "sliding_window": "wide"}, "sliding_window is 'wide'"),
    ],
)
def test_unusable_config_names_the_field(change: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        from_config({**LLAMA, **change}, name="x")


def test_a_repository_names_its_preset() -> None:
    assert preset("Qwen/Qwen3-8B") is preset("qwen3-8b")


def test_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"llama-3\.2-1b"):
        preset("gpt-9")


def test_impossible_shapes_are_refused() -> None:
    fields = {
        "name": "x", "layers": 2, "width": 64, "heads": 4, "kv_heads": 2, "head_size": 16, "feed_forward": 128,
        "vocabulary": 256, "tied": True,
    }  # fmt: skip
    assert of_architecture(Architecture(**fields)).head == 0
    for change in ({"layers": 0}, {"experts_active": 2}, {"local_layers": 3}, {"local_layers": 1}, {"width": 1.5}):
        with pytest.raises(UsageError):
            Architecture(**{**fields, **change})


def test_a_configuration_says_biases_and_windows() -> None:
    config = {
        "model_type": "mistral", "num_hidden_layers": 4, "hidden_size": 64, "num_attention_heads": 4,
        "intermediate_size": 128, "vocab_size": 256, "attention_bias": True, "sliding_window": 32,
    }  # fmt: skip
    assert [block.window for block in from_config(config, name="m").blocks] == [32] * 4
    gemma = from_config({**config, "model_type": "gemma2"}, name="g")
    assert [block.window for block in gemma.blocks] == [32, 0, 32, 0]
    assert sum(tensor.size for tensor in gemma.tensors() if tensor.kind == "bias") == 4 * (3 * 4 * 256 + 64)
