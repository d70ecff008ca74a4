"""A model as people name it: a preset, a `config.json`, shape numbers, or only a number of parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qatplan.errors import DataError, UsageError
from qatplan.models.architecture import Architecture
from qatplan.models.hf_config import from_config
from qatplan.models.layout import Layout, infer
from qatplan.models.presets import preset


def architecture(name: str) -> Architecture:
    """The architecture of a preset name, a `config.json`, or a folder that holds one.

    Raises UsageError for an unknown name and DataError for a file that is no configuration.
    """
    path = Path(name)
    if path.is_dir():
        path = path / "config.json"
    if not path.is_file():
        if path.suffix == ".json" or "/" in name:
            raise UsageError(f"{path} does not exist; give a config.json or the name of a known model.")
        return preset(name)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read as a config.json: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as a config.json: it is no JSON file.") from error
    if not isinstance(config, dict):
        raise DataError(f"{path} is not a config.json: it holds no JSON object.")
    return from_config(config, name=path.parent.name if path.name == "config.json" and path.parent.name else path.stem)


def named(model: str | None, **shape: Any) -> Architecture | Layout:
    """The architecture of a name or file, or without one the model that `described` makes of its numbers."""
    if model is None:
        return described(**shape)
    if any(value is not None for name, value in shape.items() if name not in ("tied", "experts", "experts_active")):
        raise UsageError("give a model or its numbers, not both.")
    return architecture(model)


def described(
    *,
    layers: int | None = None,
    width: int | None = None,
    heads: int | None = None,
    kv_heads: int | None = None,
    head_size: int | None = None,
    feed_forward: int | None = None,
    vocabulary: int | None = None,
    tied: bool = True,
    experts: int = 1,
    experts_active: int = 1,
    params: float | None = None,
) -> Architecture | Layout:
    """A model from shape numbers, or inferred from `params` alone.

    KV heads default to the heads, the head size to width / heads. Raises UsageError that names what is missing.
    """
    shape = {"layers": layers, "width": width, "heads": heads, "feed-forward": feed_forward, "vocabulary": vocabulary}
    if params is not None:
        given = [name for name, value in shape.items() if value is not None and name != "vocabulary"]
        if given:
            raise UsageError(f"give params or a shape, not both: {', '.join(given)} is given too.")
        return infer(params, vocabulary=None if vocabulary is None else float(vocabulary))
    if layers is None or width is None or heads is None or feed_forward is None or vocabulary is None:
        missing = [f"--{name}" for name, value in shape.items() if value is None]
        raise UsageError(f"the model's shape lacks {', '.join(missing)}; or give a preset, a config.json, or --params.")
    # What is no shape at all (0 heads) is refused by the architecture itself, with the field's name.
    if head_size is None and heads > 0 and width % heads:
        raise UsageError(f"heads is {heads}, which does not divide width {width}; give --head-size too.")
    return Architecture(
        name="described",
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=heads if kv_heads is None else kv_heads,
        head_size=width // max(heads, 1) if head_size is None else head_size,
        feed_forward=feed_forward,
        vocabulary=vocabulary,
        tied=tied,
        experts=experts,
        experts_active=experts_active,
        source="the numbers given",
    )
