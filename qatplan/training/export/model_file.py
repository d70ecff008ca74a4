"""Exported models on disk: one safetensors file of codes, steps and zeros, with the run's configuration in its header.

Per matrix `NAME.codes` (uint8), `NAME.step` (float32, one per row) and, where rows differ in it, `NAME.zero`; norms as
float32 `NAME`. A matrix of mixed bit widths has `NAME.widths` and these per width: `NAME.3.codes`. Where codes lie in
Hadamard space, the header has the size of the blocks.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from qatplan.errors import DataError
from qatplan.quant.quantizer import Affine
from qatplan.quant.stored import MixedWeight, StoredWeight
from qatplan.training.export.exported import ExportedModel, Weight
from qatplan.training.segment import from_json

FORMAT = "qatplan-model-1"


def encode(model: ExportedModel) -> bytes:
    """The file's content."""
    tensors: dict[str, Tensor] = {}
    header = {name: _put(tensors, name, weight) for name, weight in model.weights.items()}
    tensors |= {name: value.float() for name, value in model.ranges.items()}
    metadata = {
        "format": FORMAT,
        "config": json.dumps(asdict(model.config), separators=(",", ":")),
        "weights": json.dumps(header, separators=(",", ":")),
        "ranges": json.dumps(list(model.ranges), separators=(",", ":")),
    }
    return save_tensors({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, metadata)


def decode(data: bytes, name: str) -> ExportedModel:
    """The model in a file that `encode` made; DataError, which calls it `name`, for a damaged or foreign one."""
    try:
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length])["__metadata__"]
        if metadata["format"] != FORMAT:
            raise ValueError(f"its format is {metadata['format']!r}, not {FORMAT!r}")
        tensors = load_tensors(data)
        weights = {name: _take(tensors, name, about) for name, about in json.loads(metadata["weights"]).items()}
        ranges = {name: tensors[name] for name in json.loads(metadata["ranges"])}
        config = from_json(json.loads(metadata["config"]))
    except Exception as error:  # safetensors raises exceptions of its own beside those of json and dictionaries
        raise DataError(f"{name} cannot be read as an exported model: {error}.") from error
    return ExportedModel(config=config, weights=weights, ranges=ranges)


def _put(tensors: dict[str, Tensor], name: str, weight: Weight) -> Any:
    """Lay out one weight's tensors; returns what the header says of it."""
    if isinstance(weight, Tensor):
        tensors[name] = weight
        return None
    if isinstance(weight, MixedWeight):
        tensors[f"{name}.widths"] = weight.widths
        parts = {str(bits): _put(tensors, f"{name}.{bits}", part) for bits, part in weight.parts.items()}
        return {"shape": weight.shape, "parts": parts}
    tensors[f"{name}.codes"], tensors[f"{name}.step"] = weight.packed, weight.grid.step
    about: dict[str, Any] = {"shape": weight.shape, "levels": weight.levels}
    if weight.grid.block > 1:
        about["block"] = weight.grid.block
    if weight.grid.zero.numel() > 1:
        tensors[f"{name}.zero"] = weight.grid.zero
        return about
    return about | {"zero": float(weight.grid.zero)}


def _take(tensors: dict[str, Tensor], name: str, about: Any) -> Weight:
    if about is None:
        return tensors[name]
    shape = (int(about["shape"][0]), int(about["shape"][1]))
    if "parts" in about:
        parts = {int(bits): _take(tensors, f"{name}.{bits}", part) for bits, part in about["parts"].items()}
        return MixedWeight(shape=shape, widths=tensors[f"{name}.widths"], parts=parts)  # type: ignore[arg-type]
    zero = tensors[f"{name}.zero"] if "zero" not in about else torch.full((1, 1), float(about["zero"]))
    grid = Affine(step=tensors[f"{name}.step"], zero=zero, block=int(about.get("block", 1)))
    return StoredWeight(shape=shape, levels=int(about["levels"]), packed=tensors[f"{name}.codes"], grid=grid)
