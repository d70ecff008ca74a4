"""Which ggml type llama.cpp gives to each tensor in the mixtures people download, such as Q4_K_M.

The rules are those of `llama_tensor_get_type` in llama.cpp's src/llama-quant.cpp (read at commit 007dbbf), for
architectures other than Falcon and for files made without an importance matrix, except the i-quants of 3 bits and
less, which cannot be made without one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from qatplan.errors import UsageError
from qatplan.models.architecture import Architecture
from qatplan.models.formats import BLOCKS, Block
from qatplan.models.layers import Tensor

# Mixture name -> the type it starts from.
_BASE: Final[dict[str, str]] = {
    "F32": "F32", "F16": "F16", "BF16": "BF16",
    "Q4_0": "Q4_0", "Q4_1": "Q4_1", "Q5_0": "Q5_0", "Q5_1": "Q5_1", "Q8_0": "Q8_0",
    "Q2_K": "Q2_K", "Q2_K_S": "Q2_K", "Q3_K_S": "Q3_K", "Q3_K_M": "Q3_K", "Q3_K_L": "Q3_K",
    "Q4_K_S": "Q4_K", "Q4_K_M": "Q4_K", "Q5_K_S": "Q5_K", "Q5_K_M": "Q5_K", "Q6_K": "Q6_K",
    "IQ1_S": "IQ1_S", "IQ1_M": "IQ1_M", "IQ2_XXS": "IQ2_XXS", "IQ2_XS": "IQ2_XS", "IQ2_S": "IQ2_XS", "IQ2_M": "IQ2_S",
    "IQ3_XXS": "IQ3_XXS", "IQ3_XS": "IQ3_S", "IQ3_S": "IQ3_S", "IQ3_M": "IQ3_S", "IQ4_NL": "IQ4_NL", "IQ4_XS": "IQ4_XS",
    "TQ1_0": "TQ1_0", "TQ2_0": "TQ2_0", "MXFP4_MOE": "MXFP4",
}  # fmt: skip
_ALIASES: Final = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}
# Mixtures of https://huggingface.co/bartowski (not checked against a file): embedding and head at Q8_0, all
# else as in the mixture named.
_FINE_TABLES: Final = {"Q2_K_L": "Q2_K", "Q3_K_XL": "Q3_K_L", "Q4_K_L": "Q4_K_M", "Q5_K_L": "Q5_K_M", "Q6_K_L": "Q6_K"}
NAMES: Final[tuple[str, ...]] = (*_BASE, *_ALIASES, *_FINE_TABLES)
"""Mixture names; a name without a suffix means the M mixture, as in llama.cpp."""

# Of compressed keys and recurrent layers the converter splits and renames tensors from model to model.
_NOT_FOLLOWED: Final = frozenset({"latent", "mixer", "recurrence", "position"})
_TWO_BIT_AND_LESS: Final = frozenset({"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M"})
# Where the width is no multiple of the block, llama.cpp falls back to a type with blocks of 32.
_FALLBACK: Final[dict[str, str]] = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"),
    **dict.fromkeys(("Q2_K", "Q3_K", "TQ1_0", "TQ2_0"), "Q4_0"),
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}
_EMBEDDING: Final[dict[str, str]] = {
    **dict.fromkeys(("IQ2_XXS", "IQ2_XS", "IQ1_S", "IQ1_M"), "Q2_K"),
    **dict.fromkeys(("IQ2_S", "IQ2_M", "IQ3_XXS"), "IQ3_S"),
    **dict.fromkeys(("TQ1_0", "TQ2_0"), "Q4_K"),
}
_ATTENTION_OUTPUT: Final[dict[str, str]] = {
    "IQ1_S": "IQ2_XXS", "IQ1_M": "IQ2_XXS", "IQ2_S": "IQ3_S", "IQ2_M": "IQ3_S", "IQ3_XXS": "IQ3_S",
    "Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "IQ3_M": "Q4_K", "Q3_K_L": "Q5_K",
}  # fmt: skip
_FUSED_QKV: Final = {"Q3_K_M": "Q4_K", "Q3_K_L": "Q4_K", "IQ3_M": "Q4_K", "Q4_K_M": "Q5_K", "Q5_K_M": "Q6_K"}
_FIVE_WITH_EIGHT_EXPERTS: Final = frozenset(
    ["Q2_K", "IQ3_XS", "IQ3_XXS", "Q3_K_S", "Q3_K_M", "IQ4_NL", "IQ4_XS", "Q4_K_S", "Q4_K_M", "IQ3_S", "IQ3_M"]
)
# Types of the down matrices in the first eighth of the layers.
_FIRST_DOWN: Final[dict[str, str]] = {
    "IQ1_S": "Q2_K", "IQ1_M": "Q2_K", "IQ2_XXS": "Q2_K", "IQ2_XS": "Q2_K", "IQ2_S": "IQ3_S", "IQ2_M": "IQ3_S",
    "Q2_K_S": "Q4_K", "IQ3_M": "Q4_K", "IQ4_NL": "Q5_K", "IQ4_XS": "Q5_K", "Q4_K_S": "Q5_K",
}  # fmt: skip


def mixture(name: str) -> str | None:
    """The mixture's canonical name, or None when it is none of llama.cpp's."""
    upper = name.strip().upper()
    upper = _ALIASES.get(upper, upper)
    return upper if upper in _BASE or upper in _FINE_TABLES else None


def assign(architecture: Architecture, name: str) -> Iterator[tuple[Tensor, Block]]:
    """Every tensor with the block type it gets in the named mixture.

    Raises UsageError for an unknown name.
    """
    canonical = mixture(name)
    if canonical is None:
        raise UsageError(f"format {name!r} is not one of llama.cpp's mixtures: {', '.join(NAMES)}.")
    tensors = tuple(architecture.tensors())
    if not architecture.mixtures_known or {tensor.kind for tensor in tensors} & _NOT_FOLLOWED:
        raise UsageError(
            f"format {name}: which types llama.cpp gives to the tensors of {architecture.name} is not followed here; "
            "give a uniform format such as int4:g32 or bf16."
        )
    for tensor in tensors:
        yield tensor, BLOCKS[_type_of(tensor, architecture, canonical)]


def _type_of(tensor: Tensor, architecture: Architecture, name: str) -> str:
    if name in _FINE_TABLES:
        is_table = tensor.kind in ("embedding", "head") and tensor.cols % BLOCKS["Q8_0"].weights == 0
        return "Q8_0" if is_table else _type_of(tensor, architecture, _FINE_TABLES[name])
    base = _BASE[name]
    if tensor.kind in ("norm", "bias", "router", "position"):
        return "F32"
    if base in ("F32", "F16", "BF16"):
        return base
    chosen = _chosen(tensor, architecture, name, base)
    if tensor.cols % BLOCKS[chosen].weights:
        chosen = _FALLBACK.get(chosen, "F16")
        if tensor.cols % BLOCKS[chosen].weights:
            return "F16"
    return chosen


def _chosen(tensor: Tensor, architecture: Architecture, name: str, base: str) -> str:
    """The type before the fallback for widths that do not divide."""
    kind, layer, layers = tensor.kind, tensor.layer, architecture.layers
    if kind == "head" or (kind == "embedding" and architecture.tied):
        return _output_type(tensor, name, base)
    if name == "MXFP4_MOE":
        return "MXFP4" if tensor.count > 1 else "Q8_0"
    if kind == "embedding":
        return _EMBEDDING.get(name, base)
    shared = architecture.heads // architecture.kv_heads >= 4
    if kind == "value":
        return _value_type(layer, layers, shared, architecture, name, base)
    eight_experts = architecture.experts == 8
    if kind == "key" and eight_experts:
        return "Q4_K" if name in _TWO_BIT_AND_LESS else "Q8_0"
    if kind in ("query", "key"):
        return {"IQ3_XS": "IQ3_XXS", "IQ3_XXS": "IQ2_S"}.get(name, base)
    if kind == "query-key-value":
        return _FUSED_QKV.get(name, base)
    if kind == "attention-output":
        if eight_experts:
            return "Q5_K" if name in _TWO_BIT_AND_LESS or name in _FIVE_WITH_EIGHT_EXPERTS else base
        return _ATTENTION_OUTPUT.get(name, base)
    if kind == "down":
        return _down_type(layer, layers, eight_experts, name, base)
    if name == "IQ3_XS" and layers // 8 <= layer < 7 * layers // 8:
        return "IQ3_XXS"
    return base


def more_bits(layer: int, layers: int) -> bool:
    """The layers to which the M mixtures give more bits: the first and last eighth, and every third between."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def _output_type(tensor: Tensor, name: str, base: str) -> str:
    if name == "MXFP4_MOE" or tensor.cols % BLOCKS[base].weights:
        return "Q8_0"
    if name in _TWO_BIT_AND_LESS or name == "IQ3_XXS":
        return "Q5_K"
    return base if base == "Q8_0" else "Q6_K"


def _value_type(layer: int, layers: int, shared: bool, architecture: Architecture, name: str, base: str) -> str:
    """`shared` is true when at least four query heads share each value head."""
    if name in _TWO_BIT_AND_LESS:
        if shared or architecture.experts >= 4:
            return "Q4_K"
        return "IQ3_S" if name in ("IQ2_S", "IQ2_M") else "Q2_K"
    chosen = base
    if name == "Q2_K":
        chosen = "Q4_K" if shared else "Q3_K"
    elif (name in ("Q2_K_S", "IQ3_XXS", "IQ3_XS", "IQ3_S") and shared) or name == "IQ3_M":
        chosen = "Q4_K"
    elif name == "Q3_K_M":
        chosen = "Q5_K" if layer < 2 else "Q4_K"
    elif name == "Q3_K_L" or (name in ("IQ4_NL", "IQ4_XS") and shared) or (name == "Q4_K_S" and layer < 4):
        chosen = "Q5_K"
    elif name in ("Q4_K_M", "Q5_K_M") and more_bits(layer, layers):
        chosen = "Q6_K"
    # llama.cpp calls a Llama of 80 layers its 70B type, whose value matrices are an eighth of the query's.
    if layers == 80 and architecture.heads != architecture.kv_heads and chosen in ("Q3_K", "Q4_K"):
        chosen = "Q5_K"
    return "Q8_0" if architecture.experts == 8 else chosen


def _down_type(layer: int, layers: int, eight_experts: bool, name: str, base: str) -> str:
    every = {"Q2_K": "Q3_K", "Q3_K_M": "Q5_K" if layer < layers // 16 else "Q4_K", "Q3_K_L": "Q5_K"}
    if name in every:
        return every[name]
    if layer < layers // 8 and name in _FIRST_DOWN:
        return _FIRST_DOWN[name]
    if more_bits(layer, layers):
        if name in ("Q4_K_M", "Q5_K_M"):
            return "Q6_K"
        if name == "IQ3_M" and eight_experts:
            return "Q4_K"
    return base
