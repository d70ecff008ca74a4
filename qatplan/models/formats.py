"""Weight formats and the exact number of bytes that a matrix of weights takes in each.

Two kinds: *block* types of ggml (a fixed number of weights in a fixed number of bytes) and *uniform* formats (B bits
per weight, one scale and perhaps one zero point per group or per output channel). Mixtures of block types, such as
Q4_K_M, are in `gguf`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from qatplan.errors import UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A ggml tensor type: every row is cut into blocks of `weights` weights, `bytes` bytes each."""

    name: str
    weights: int
    bytes: int

    @property
    def bits_per_weight(self) -> float:
        """Scales included."""
        return 8.0 * self.bytes / self.weights

    def bytes_of(self, rows: int, cols: int) -> int:
        """Bytes of a (rows, cols) matrix; `cols` must be a multiple of the block."""
        if cols % self.weights:
            raise UsageError(f"{self.name} cuts rows into blocks of {self.weights} weights, and {cols} is no multiple.")
        return rows * (cols // self.weights) * self.bytes


# (weights per block, bytes per block): the sizes of the block structures in
# https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h.
BLOCKS: Final[dict[str, Block]] = {
    name: Block(name=name, weights=weights, bytes=size)
    for name, weights, size in (
        ("F32", 1, 4), ("F16", 1, 2), ("BF16", 1, 2),
        ("Q4_0", 32, 18), ("Q4_1", 32, 20), ("Q5_0", 32, 22), ("Q5_1", 32, 24), ("Q8_0", 32, 34),
        ("Q2_K", 256, 84), ("Q3_K", 256, 110), ("Q4_K", 256, 144), ("Q5_K", 256, 176), ("Q6_K", 256, 210),
        ("IQ1_S", 256, 50), ("IQ1_M", 256, 56), ("IQ2_XXS", 256, 66), ("IQ2_XS", 256, 74), ("IQ2_S", 256, 82),
        ("IQ3_XXS", 256, 98), ("IQ3_S", 256, 110), ("IQ4_NL", 32, 18), ("IQ4_XS", 256, 136),
        ("TQ1_0", 256, 54), ("TQ2_0", 256, 66), ("MXFP4", 32, 17), ("NVFP4", 64, 36),
    )
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Uniform:
    """B bits per weight for every quantized matrix, with one scale (and zero point) per group of weights."""

    name: str
    bits: float
    """Nominal bits of a code; ternary is 1.58."""
    group_size: int | None = None
    """Weights along the input dimension that share a scale; None for one scale per output channel."""
    scale_bits: float = 16.0
    """Bits of one scale; 0 for plain floating point."""
    zero_bits: float = 0.0
    """Bits of one zero point; 0 for symmetric grids."""
    width_bits: float = 0.0
    """Bits per output channel that say how wide its codes are, where widths are mixed and `bits` is their average."""
    table_bits: float | None = None
    """Bits of the embedding table and of the head; None follows `bits`, floored at `table_floor`."""
    head_bits: float | None = None
    """Bits of a head of its own where it differs from the table (torchao quantizes every linear layer)."""
    table_floor: float = 4.0
    """Embedding and head never go below this (arXiv 2509.22935 keeps them at 4 bits or more)."""
    header: tuple[float, float] = (0.0, 0.0)
    """Bytes of the file's own header, and those it has more for each layer."""
    quantizes: str = "matrices"
    """'matrices', or 'experts' where only expert weights are quantized and the other matrices stay at 16 bits."""
    source: str = ""

    def bytes_of(self, rows: float, cols: float, *, bits: float | None = None) -> float:
        """Bytes of a (rows, cols) matrix with its scales. Codes are packed without gaps; a partial group counts.

        `bits` is given for a matrix whose codes all have that width, such as the embedding table.
        """
        width = stored_bits(self.bits if bits is None else bits)
        if width >= 16.0:
            return rows * cols * width / 8.0
        groups = 1.0 if self.group_size is None else math.ceil(cols / self.group_size)
        own_width = self.width_bits if bits is None else 0.0
        return rows * (cols * width + groups * (self.scale_bits + self.zero_bits) + own_width) / 8.0

    @property
    def embedding_bits(self) -> float:
        """Bits of the embedding table's codes."""
        return max(self.bits, self.table_floor) if self.table_bits is None else self.table_bits

    @property
    def output_bits(self) -> float:
        """Bits of the codes of a head that is not tied."""
        return self.embedding_bits if self.head_bits is None else self.head_bits


def stored_bits(bits: float) -> float:
    """Bits a code takes in memory: ternary codes (1.58) pack five to a byte, 1.6 bits; other widths pack exactly."""
    return 1.6 if 1.5 < bits < 1.6 else float(bits)


_SPECIFICATION = re.compile(r"int(?P<bits>[0-9]+(?:\.[0-9]+)?)(?P<rest>(?::[a-z0-9.]+)*)")
_GPTQ = "https://github.com/AutoGPTQ/AutoGPTQ (qlinear: packed codes, float16 scale and packed zero point per group)"
_AWQ = "https://github.com/mit-han-lab/llm-awq (WQLinear: packed codes, float16 scale and packed zero point per group)"
_TORCHAO = "https://docs.pytorch.org/ao/stable/generated/torchao.quantization.Int4WeightOnlyConfig.html"
_OCP = "OCP Microscaling Formats v1.0: blocks of 32 four-bit floats with one 8-bit scale"
_NF4 = "QLoRA, arXiv 2305.14314, section 3: blocks of 64 weights with one 32-bit scale (bitsandbytes' default)"
_NF4_DOUBLE = "QLoRA, arXiv 2305.14314, section 3: those scales in 8 bits, with a 32-bit scale per 256 of them"
_NVFP4 = "https://developer.nvidia.com/blog/introducing-nvfp4-for-efficient-and-accurate-low-precision-inference/"

NAMED: Final[dict[str, Uniform]] = {
    spec.name: spec
    for spec in (
        Uniform(name="f32", bits=32, table_bits=32, source="IEEE 754 binary32"),
        Uniform(name="bf16", bits=16, table_bits=16, source="bfloat16"),
        Uniform(name="f16", bits=16, table_bits=16, source="IEEE 754 binary16"),
        Uniform(name="fp8", bits=8, table_bits=16, source="OCP FP8 E4M3, one float16 scale per output channel"),
        Uniform(name="gptq4", bits=4, group_size=128, zero_bits=4, table_bits=16, source=_GPTQ),
        Uniform(name="gptq3", bits=3, group_size=128, zero_bits=3, table_bits=16, source=_GPTQ),
        Uniform(name="gptq8", bits=8, group_size=128, zero_bits=8, table_bits=16, source=_GPTQ),
        Uniform(name="awq", bits=4, group_size=128, zero_bits=4, table_bits=16, source=_AWQ),
        # tinygemm keeps a bfloat16 scale and zero point per group; every nn.Linear is quantized, the head too.
        Uniform(name="torchao-int4", bits=4, group_size=128, zero_bits=16, table_bits=16, head_bits=4, source=_TORCHAO),
        Uniform(name="torchao-int8", bits=8, table_bits=16, head_bits=8, source=_TORCHAO),
        Uniform(name="mxfp4", bits=4, group_size=32, scale_bits=8, table_bits=16, source=_OCP),
        Uniform(
            name="mxfp4-experts", bits=4, group_size=32, scale_bits=8, table_bits=16, quantizes="experts", source=_OCP
        ),
        Uniform(name="nf4", bits=4, group_size=64, scale_bits=32, table_bits=16, source=_NF4),
        Uniform(name="nf4-double", bits=4, group_size=64, scale_bits=8.125, table_bits=16, source=_NF4_DOUBLE),
        Uniform(name="nvfp4", bits=4, group_size=16, scale_bits=8, table_bits=16, source=_NVFP4),
    )
}
"""Uniform formats known by name."""


# Tensor names, shapes and places in the safetensors header, by (mixed widths, zero points): measured on files of 2 to
# 9 layers (tests/training/export/test_exported.py), since they depend on nothing but the number of layers.
_EXPORTED_HEADER: Final[dict[tuple[bool, bool], tuple[float, float]]] = {
    (False, False): (775.0, 1250.0),
    (False, True): (790.0, 1576.0),
    (True, False): (440.0, 3680.0),
    (True, True): (380.0, 4663.0),
}


def own(
    bits: float, *, group_size: int | None = None, zero_bits: float = 0.0, scale_bits: float = 16.0,
    table_bits: float | None = None, mixed: bool = False, exported: bool = False,
) -> Uniform:  # fmt: skip
    """Our own B-bit format: packed codes, 16-bit scales per group or output channel, embeddings at 4 bits or more.

    `mixed` widths average `bits` over the matrices, and a byte per output channel says the width of its codes.
    `exported` is the file that `qatplan export` writes: scales and zero points are 32-bit floats, and it has a header.
    """
    if not 1 <= bits <= 32:
        raise UsageError(f"bits is {bits:g}, but it must lie between 1 and 32.")
    if group_size is not None and group_size < 1:
        raise UsageError(f"group size is {group_size}, but it must be at least 1.")
    if table_bits is not None and not 1 <= table_bits <= 32:
        raise UsageError(f"embedding bits is {table_bits:g}, but it must lie between 1 and 32.")
    suffixes = {f":g{group_size}": group_size, ":z": zero_bits, ":m": mixed, ":f": exported}
    return Uniform(
        name=f"int{bits:g}" + "".join(suffix for suffix, given in suffixes.items() if given),
        bits=bits,
        group_size=group_size,
        scale_bits=32.0 if exported else scale_bits,
        zero_bits=32.0 if exported and zero_bits else zero_bits,
        width_bits=8.0 if mixed else 0.0,
        table_bits=table_bits,
        header=_EXPORTED_HEADER[mixed, bool(zero_bits)] if exported else (0.0, 0.0),
        source="packed codes with a 16-bit scale; the plain format that the sweep's quantizers produce",
    )


def parse_uniform(text: str) -> Uniform | None:
    """Read `bf16`, `mxfp4`, ..., or `int4`, `int3:g128`, `int4:g64:z`, `int2:e8`; None when it is none of these.

    After `int` and the bits: `gN` groups of N weights, `z` a zero point of as many bits, `m` widths mixed by output
    channel that average the bits, `eN` embedding and head at N bits, `f` the file that `qatplan export` writes. Raises
    UsageError for a specification that starts like one and cannot be read.
    """
    lowered = text.strip().lower()
    if lowered in NAMED:
        return NAMED[lowered]
    if not lowered.startswith("int"):
        return None
    match = _SPECIFICATION.fullmatch(lowered)
    if match is None:
        raise UsageError(f"format {text!r} cannot be read; write int4, int4:g128, int4:g128:z or int2:g64:e8.")
    bits = float(match["bits"])
    group, zero, table, mixed, exported = None, 0.0, None, False, False
    for part in match["rest"].split(":")[1:]:
        number = part[1:]
        if part == "z":
            zero = math.ceil(bits)
        elif part == "m":
            mixed = True
        elif part == "f":
            exported = True
        elif part[0] == "g" and number.isdigit():
            group = int(number)
        elif part[0] == "e" and number.replace(".", "", 1).isdigit():
            table = float(number)
        else:
            raise UsageError(
                f"format {text!r}: {part!r} is none of g<weights per group>, z, m, f, e<bits of embeddings>."
            )
    return own(bits, group_size=group, zero_bits=zero, table_bits=table, mixed=mixed, exported=exported)
