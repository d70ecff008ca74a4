"""Memory against published file sizes, exact bits per weight of formats, KV caches and workspace."""

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qatplan.errors import UsageError
from qatplan.models.architecture import Architecture
from qatplan.models.formats import BLOCKS, NAMED, own, parse_uniform
from qatplan.models.gguf import NAMES, assign
from qatplan.models.layout import infer, of_architecture
from qatplan.models.memory import estimate, kv_bits, total_bytes
from qatplan.models.presets import PRESETS, preset

REFERENCE = Path(__file__).parent.parent / "reference" / "model_files.csv"
with REFERENCE.open() as file:
    PUBLISHED = list(csv.DictReader(line for line in file if not line.startswith("#")))


def test_reference_has_every_published_size() -> None:
    assert len(PUBLISHED) == 13


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: f"{row['model']}-{row['format']}")
def test_file_size_is_the_published_one(row: dict[str, str]) -> None:
    """Tensors follow llama.cpp's choice exactly, so what is left is the header: within 0.02 % of the file."""
    memory = estimate(preset(row["model"]), form=row["format"])
    assert memory.parameters == int(row["parameters"])
    assert memory.weights_bytes == pytest.approx(int(row["bytes"]), rel=2e-4)
    # Negative control: parameters times the nominal bits is off by far more than the two percent allowed.
    nominal = int(row["parameters"]) * float(row["format"][1]) / 8
    assert abs(nominal / int(row["bytes"]) - 1) > 0.05


@pytest.mark.parametrize(("name", "bytes_published"), [("gpt-oss-20b", 12.8), ("gpt-oss-120b", 60.8)])
def test_checkpoint_of_four_bit_experts(name: str, bytes_published: float) -> None:
    """arXiv 2508.10925, table 1: checkpoint sizes in GiB, MXFP4 for expert weights, bfloat16 for the rest."""
    memory = estimate(preset(name), form="mxfp4-experts")
    assert memory.weights_bytes / 2**30 == pytest.approx(bytes_published, rel=0.005)


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("Q2_K", 2.625), ("Q3_K", 3.4375), ("IQ4_XS", 4.25), ("MXFP4", 4.25), ("Q4_0", 4.5), ("Q4_K", 4.5),
        ("IQ4_NL", 4.5), ("NVFP4", 4.5), ("Q5_K", 5.5), ("Q6_K", 6.5625), ("Q8_0", 8.5), ("IQ1_S", 1.5625),
        ("TQ1_0", 1.6875), ("IQ2_XXS", 2.0625), ("IQ3_XXS", 3.0625),
    ],
)  # fmt: skip
def test_block_bits_per_weight(name: str, bits: float) -> None:
    assert BLOCKS[name].bits_per_weight == bits


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("int4", 4 + 16 / 4096), ("int4:g128", 4.125), ("int4:g128:z", 4.15625), ("gptq4", 4.15625), ("awq", 4.15625),
        ("torchao-int4", 4.25), ("mxfp4", 4.25), ("nvfp4", 4.5),
        ("nf4", 4.5), ("nf4-double", 4 + 8 / 64 + 32 / (64 * 256)),
        ("bf16", 16), ("int1.58:g128", 1.6 + 0.125),
        ("int3:m", 3 + 24 / 4096), ("int3:g64:z:m", 3 + 19 / 64 + 8 / 4096),
    ],
)  # fmt: skip
def test_uniform_bits_per_weight(text: str, bits: float) -> None:
    form = parse_uniform(text)
    assert form is not None
    assert 8 * form.bytes_of(4096, 4096) / 4096**2 == pytest.approx(bits, rel=1e-12)


def test_plain_floats_take_exactly_their_bits() -> None:
    shape = preset("qwen3-0.6b")
    assert estimate(shape, form="bf16").weights_bytes == 2 * int(of_architecture(shape).parameters)
    assert estimate(shape, form="f32").weights_bytes == 4 * int(of_architecture(shape).parameters)


def test_embeddings_keep_their_floor() -> None:
    shape = preset("smollm2-135m")
    table = int(of_architecture(shape).embedding)
    for bits, floor in ((1, 4), (2, 4), (4, 4), (8, 8)):
        item = estimate(shape, form=f"int{bits}").bytes_of("embedding")
        assert item == table * floor // 8 + 2 * shape.vocabulary
    assert estimate(shape, form="int2:e2").bytes_of("embedding") == table * 2 // 8 + 2 * shape.vocabulary


@pytest.mark.parametrize(
    ("form", "per_token"), [("f16", 131_072), ("q8_0", 131_072 * 1.0625 / 2), ("q4_0", 131_072 * 0.5625 / 2)]
)
def test_kv_cache_of_llama(form: str, per_token: float) -> None:
    assert estimate(preset("llama-3.1-8b"), form="Q4_0", context=8192, kv_format=form).kv_bytes == 8192 * per_token


def test_sliding_windows_cap_their_cache() -> None:
    """llama.cpp keeps the window and a micro-batch of 512 tokens, in steps of 256: 1,024 and, of gpt-oss, 768 cells."""
    shape = preset("gemma-3-1b")
    per_layer = 2 * shape.kv_heads * shape.head_size * 2
    assert estimate(shape, form="Q8_0", context=8192).kv_bytes == per_layer * (4 * 8192 + 22 * 1024)
    assert estimate(shape, form="Q8_0", context=100).kv_bytes == per_layer * 26 * 100
    gpt_oss = estimate(preset("gpt-oss-20b"), form="bf16", context=8192)
    assert gpt_oss.kv_bytes == 2 * 8 * 64 * 2 * 12 * (8192 + 768)
    assert any("768 tokens" in line for line in gpt_oss.assumptions)


def test_workspace_is_llama_cpp_s_compute_buffer() -> None:
    """llama.cpp logs "compute buffer size = 258.50 MiB" for Llama 3 8B with micro-batches of 512 tokens."""
    assert estimate(preset("llama-3-8b"), form="Q4_0").bytes_of("workspace") == 258.5 * 2**20


def test_every_format_works_on_every_preset_and_items_add_up() -> None:
    forms = (*NAMES, *NAMED, "int3:g64")
    assert len(PRESETS) >= 3, "each format meets a third of the presets, and each preset a third of the formats"
    for i, shape in enumerate(PRESETS.values()):
        for form in forms[i % 3 :: 3]:
            memory = estimate(shape, form=form)
            plain = memory.as_dict()
            assert sum(item["bytes"] for item in plain["items"]) == memory.total_bytes == plain["total_bytes"]
            assert 1.0 < memory.bits_per_weight <= 32.0


def test_smooth_total_is_the_itemised_total() -> None:
    for layout in (infer(1.5e9), infer(1e5), of_architecture(preset("qwen3-8b"))):
        for form in (own(2), own(4, group_size=64)):
            exact = estimate(layout, form=form, context=4096, batch=2).total_bytes
            smooth = total_bytes(layout, form, context=4096, batch=2, kv_format="f16")
            assert 0 <= exact - smooth <= 6


@settings(deadline=None)
@given(st.floats(5e3, 1e12), st.floats(1.0, 1.5))
def test_inferred_layouts_grow_smoothly(parameters: float, factor: float) -> None:
    small, large = infer(parameters), infer(parameters * factor)
    for layout in (small, large):
        matrices = sum(m.rows * m.cols for m in layout.matrices)
        assert layout.embedding + matrices == pytest.approx(layout.parameters, rel=1e-9)
    for form in (own(1.58), own(4, group_size=128)):
        at_small, at_large = (total_bytes(x, form, context=2048, batch=1, kv_format="f16") for x in (small, large))
        assert at_small * (1 - 1e-12) <= at_large <= at_small * factor**1.6 * (1 + 1e-3)


def test_inferred_shape_resembles_the_model_it_stands_for() -> None:
    """Within 25 % of Llama 3.2 1B in memory, from the number of parameters alone."""
    shape = preset("llama-3.2-1b")
    known = estimate(shape, form="int4", context=4096).total_bytes
    guessed = estimate(infer(int(of_architecture(shape).parameters)), form="int4", context=4096).total_bytes
    assert guessed == pytest.approx(known, rel=0.25)


@pytest.mark.parametrize(
    ("form", "words"),
    [("Q9_X", "is not known"), ("int", "cannot be read"), ("int4:q3", "'q3' is none of"), ("int0", "between 1 and 32")],
)
def test_unknown_formats_are_refused(form: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        estimate(preset("llama-3.2-1b"), form=form)


def test_mixture_needs_a_shape() -> None:
    with pytest.raises(UsageError, match="needs the model's shape"):
        estimate(infer(1e9), form="Q4_K_M")


@pytest.mark.parametrize("change", [{"context": 0}, {"batch": -1}, {"kv_format": "int3"}])
def test_impossible_settings_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        estimate(preset("llama-3.2-1b"), form="Q4_0", **change)
    assert kv_bits("F16") == 16


MIXTRAL = Architecture(
    name="mixtral", layers=32, width=4096, heads=32, kv_heads=8, head_size=128, feed_forward=14336, vocabulary=32000,
    tied=False, experts=8, experts_active=2,
)  # fmt: skip


@pytest.mark.parametrize(("name", "key", "output"), [("Q4_K_M", "Q8_0", "Q5_K"), ("IQ2_XXS", "Q4_K", "Q5_K")])
def test_eight_experts_share_attention_that_is_kept_finer(name: str, key: str, output: str) -> None:
    """llama_tensor_get_type: where 8 experts share an attention layer, its tensors hardly count and get more bits."""
    types = {tensor.kind: block.name for tensor, block in assign(MIXTRAL, name) if tensor.layer == 0}
    assert types["key"] == key
    assert types["attention-output"] == output


def test_large_mixtures_have_finer_tables_alone() -> None:
    llama = preset("llama-3-8b")
    plain, large = ([block.name for _, block in assign(llama, name)] for name in ("Q4_K_M", "Q4_K_L"))
    assert (large[0], large[-1]) == ("Q8_0", "Q8_0")
    assert large[1:-1] == plain[1:-1]


def test_a_width_that_no_block_divides_is_kept_in_f16() -> None:
    odd = Architecture(
        name="odd", layers=1, width=48, heads=3, kv_heads=3, head_size=16, feed_forward=80, vocabulary=256, tied=True
    )
    types = {tensor.kind: block.name for tensor, block in assign(odd, "Q4_K_M")}
    assert types["gate"] == "F16"
    with pytest.raises(UsageError, match="blocks of 32 weights"):
        BLOCKS["Q4_0"].bytes_of(1, 48)
    with pytest.raises(UsageError, match="is not one of llama"):
        next(assign(odd, "Q9"))


def test_the_largest_llama_has_finer_values() -> None:
    """llama.cpp calls 80 layers with grouped queries its 70B type: Q5_K where Q3_K or Q4_K would be."""
    llama = preset("llama-3.1-70b")
    assert {block.name for tensor, block in assign(llama, "Q3_K_M") if tensor.kind == "value"} == {"Q5_K"}


def test_exported_files_and_embedding_bits() -> None:
    form = parse_uniform("int4:f")
    assert form is not None
    assert form.scale_bits == 32
    assert form.header[0] > 0
    with pytest.raises(UsageError, match="embedding bits is 40"):
        own(4.0, table_bits=40.0)
