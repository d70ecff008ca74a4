"""Memory that a quantized model takes, item by item, in bytes."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from qatplan.errors import UsageError
from qatplan.models.formats import BLOCKS, NAMED, Uniform, parse_uniform
from qatplan.models.layout import MICRO_BATCH, Layout, of_architecture

if TYPE_CHECKING:
    from qatplan.models.architecture import Architecture

# Bytes of GGUF header (metadata, tokenizer, tensor table) per vocabulary entry, measured as published file size minus
# exact tensor bytes (tests/reference/model_files.csv), by the vocabulary that gives the tokenizer away.
_HEADER_PER_ENTRY: Final = {49_152: 36.335, 128_256: 61.1, 151_936: 39.2, 262_144: 24.93, 262_208: 24.98}
_HEADER_TYPICAL: Final = 40.0

KV_FORMATS: Final[tuple[str, ...]] = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl", "fp8")
"""Formats of the KV cache: ggml's types, and plain 8-bit floats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One part of the memory."""

    name: str
    bytes: int
    detail: str
    """What it is made of."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Itemised memory of one model in one format."""

    model: str
    format: str
    items: tuple[Item, ...]
    parameters: int
    context: int
    batch: int
    kv_format: str
    assumptions: tuple[str, ...]

    def bytes_of(self, *names: str) -> int:
        """Sum of the named items."""
        return sum(item.bytes for item in self.items if item.name in names)

    @property
    def tensor_bytes(self) -> int:
        """Weights with their scales alone."""
        return self.weights_bytes - self.bytes_of("format overhead")

    @property
    def weights_bytes(self) -> int:
        """What the model's file holds: weights with their scales, header and tokenizer."""
        return self.total_bytes - self.bytes_of("kv cache", "state", "workspace")

    @property
    def kv_bytes(self) -> int:
        """Keys and values of the whole batch at full context."""
        return self.bytes_of("kv cache")

    @property
    def total_bytes(self) -> int:
        """Everything."""
        return sum(item.bytes for item in self.items)

    @property
    def bits_per_weight(self) -> float:
        """Weight bits, scales included, per parameter."""
        return 8.0 * self.tensor_bytes / self.parameters

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of `qatplan memory`; all sizes in bytes."""
        sizes = ("weights_bytes", "tensor_bytes", "kv_bytes", "total_bytes", "bits_per_weight")
        return {
            "model": self.model,
            "format": self.format,
            "params": self.parameters,
            **{name: getattr(self, name) for name in ("context", "batch", "kv_format", *sizes)},
            "items": [asdict(item) for item in self.items],
            "assumptions": list(self.assumptions),
        }


def kv_bits(name: str) -> float:
    """Bits per value of a KV-cache format, block scales included (q8_0 8.5, q4_0 4.5). Raises UsageError."""
    lowered = name.strip().lower()
    if lowered not in KV_FORMATS:
        raise UsageError(f"kv format {name!r} is not known; it must be one of {', '.join(KV_FORMATS)}.")
    return 8.0 if lowered == "fp8" else BLOCKS[lowered.upper()].bits_per_weight


def estimate(
    model: Architecture | Layout, *, form: str | Uniform, context: int = 8192, batch: int = 1, kv_format: str = "f16"
) -> Memory:
    """Memory of a model: weights in format `form`, KV cache for `batch` sequences of `context` tokens, workspace.

    `form` is a uniform format (`int4:g128`, `bf16`, `mxfp4`, ...) or, for an architecture, one of llama.cpp's mixtures
    (`Q4_K_M`), whose type for every tensor is followed exactly. Raises UsageError for unknown formats and for a context
    or batch below 1.
    """
    for name, value in (("context", context), ("batch", batch)):
        if value < 1:
            raise UsageError(f"{name} is {value}, but it must be at least 1.")
    layout = model if isinstance(model, Layout) else of_architecture(model)
    uniform = form if isinstance(form, Uniform) else parse_uniform(form)
    if uniform is not None:
        weights = _uniform_items(layout, uniform)
        label, assumptions = uniform.name, []
    else:
        label, weights = _mixture_items(model, str(form))
        assumptions = ["tensor types as llama.cpp chooses them without an importance matrix"]
    assumptions.append(layout.source if layout.inferred else f"the shape of {layout.name} is from {layout.source}")
    if layout.window:
        assumptions.append(
            f"sliding-window layers keep {layout.window_cells:,.0f} tokens: the window of {layout.window:,.0f} and a "
            f"micro-batch of {MICRO_BATCH}, in steps of 256, as llama.cpp does"
        )
    items = [*weights, *_running_items(layout, context=context, batch=batch, kv_format=kv_format)]
    assumptions.append(
        f"workspace: logits and one layer of activations in 32 bits for up to {MICRO_BATCH} prompt tokens at a time, "
        "attention computed in tiles"
    )
    return Memory(
        model=layout.name,
        format=label,
        items=tuple(item for item in items if item.bytes),
        parameters=round(layout.parameters),
        context=context,
        batch=batch,
        kv_format=kv_format.lower(),
        assumptions=tuple(assumptions),
    )


def _uniform_items(layout: Layout, form: Uniform) -> list[Item]:
    sizes = layout.weight_bytes(form)
    group = "output channel" if form.group_size is None else f"{form.group_size} weights"
    scales = f", {form.scale_bits:g}-bit scale" + (f" and {form.zero_bits:g}-bit zero" if form.zero_bits else "")
    per = f"{scales} per {group}" if form.bits < 16 else ""
    mean = " on average" if form.width_bits else ""
    width = f", {form.width_bits:g}-bit width per output channel" if form.width_bits else ""
    return [
        _item("embedding", sizes["embedding"], f"{form.embedding_bits:g} bits"),
        _item("head", sizes["head"], f"{form.output_bits:g} bits"),
        _item("matrices", sizes["matrices"], f"{form.bits:g} bits{mean}{per}{width}"),
        _item("norms", sizes["norms"], "norms, biases and routers"),
        _item("format overhead", form.header[0] + form.header[1] * layout.layers, "header of the file"),
    ]


def _mixture_items(model: Architecture | Layout, name: str) -> tuple[str, list[Item]]:
    """(canonical name, items) of one of llama.cpp's mixtures."""
    from qatplan.models.gguf import NAMES, assign, mixture  # uniform formats start the sooner without

    label = mixture(name)
    if label is None:
        known = ", ".join((*NAMED, *NAMES))
        raise UsageError(f"format {name!r} is not known; write int4, int4:g128, or one of {known}.")
    if isinstance(model, Layout):
        raise UsageError(f"format {name} needs the model's shape, but only its number of parameters is known.")
    names = {"embedding": "embedding", "head": "head", "norm": "norms", "bias": "norms", "router": "norms"}
    sizes: dict[str, int] = {}
    types: dict[str, dict[str, None]] = {}
    for tensor, block in assign(model, label):
        group = names.get(tensor.kind, "matrices")
        sizes[group] = sizes.get(group, 0) + block.bytes_of(tensor.rows * tensor.count, tensor.cols)
        types.setdefault(group, {})[block.name] = None
    per_entry = _HEADER_PER_ENTRY.get(model.vocabulary)
    header = model.vocabulary * (per_entry or _HEADER_TYPICAL)
    origin = "measured on files of this tokenizer" if per_entry else "typical"
    return label, [
        *(_item(group, size, ", ".join(types[group])) for group, size in sizes.items()),
        _item("format overhead", header, f"GGUF header and tokenizer, {per_entry or 40:g} bytes per entry ({origin})"),
    ]


def _running_items(layout: Layout, *, context: int, batch: int, kv_format: str) -> list[Item]:
    values = layout.kv_values(float(context)) * batch
    bits = kv_bits(kv_format)
    tokens = min(MICRO_BATCH, context * batch)
    # llama.cpp reports exactly this (258.50 MiB for Llama 3 8B at 512 tokens) as its compute buffer.
    workspace = 4.0 * tokens * (layout.vocabulary + layout.width)
    return [
        _item("kv cache", values * bits / 8.0, f"{batch} x {context:,} tokens at {bits:g} bits per value"),
        _item("state", 4.0 * layout.state_values * batch, f"recurrent layers, {batch} x 32-bit values, at any context"),
        _item("workspace", workspace, f"logits and activations of {tokens} tokens"),
    ]


def _item(name: str, size: float, detail: str) -> Item:
    return Item(name=name, bytes=math.ceil(size), detail=detail)


def total_bytes(layout: Layout, form: Uniform, *, context: int, batch: int, kv_format: str) -> float:
    """The same total as `estimate`, as a real number that grows smoothly with an inferred layout's parameters."""
    weights = sum(layout.weight_bytes(form).values())
    kept = layout.kv_values(float(context)) * kv_bits(kv_format) / 8.0 + 4.0 * layout.state_values
    return weights + kept * batch + 4.0 * min(MICRO_BATCH, context * batch) * (layout.vocabulary + layout.width)
