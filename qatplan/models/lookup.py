"""A model as people name it: a preset, a `config.json`, shape numbers, or only a number of parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qatplan.errors import UsageError
from qatplan.models.architecture import Architecture
from qatplan.models.layout import Layout, infer
from qatplan.models.presets import preset
from qatplan.storage.incoming import read_json


def architecture(name: str) -> Architecture:
    """The architecture of a preset's name or repository, a `config.json`, or a folder that holds one.

    Raises UsageError for an unknown name and DataError for a file that is no configuration.
    """
    path = Path(name)
    if path.is_dir():
        path = path / "config.json"
    if not path.is_file():
        if path.suffix == ".json":
            raise UsageError(f"{path} does not exist; give a config.json or the name of a known model.")
        return preset(name)
    from qatplan.models.hf_config import from_config  # a known name starts the sooner without

    return from_config(
        read_json(path, "a config.json"),
        name=path.parent.name if path.name == "config.json" and path.parent.name else path.stem,
    )


def named(
    model: str | None, *, params: float | None = None, tied: bool = True, experts: int = 1, experts_active: int = 1,
    **shape: int | None,
) -> Architecture | Layout:  # fmt: skip
    """The architecture of a name or file, of shape numbers, or inferred from `params` and perhaps `vocabulary` alone.

    `shape` has the fields of `Architecture`: KV heads default to the heads, the head size to width / heads. Raises
    UsageError that names what is missing or given twice.
    """
    given: dict[str, Any] = {name: value for name, value in shape.items() if value is not None}
    if model is not None:
        if given or params is not None:
            raise UsageError("give a model or its numbers, not both.")
        return architecture(model)
    if params is not None:
        if surplus := [name.replace("_", "-") for name in given if name != "vocabulary"]:
            raise UsageError(f"give params or a shape, not both: {', '.join(surplus)} is given too.")
        return infer(params, vocabulary=given.get("vocabulary"))
    required = ("layers", "width", "heads", "feed_forward", "vocabulary")
    if missing := [f"--{name.replace('_', '-')}" for name in required if name not in given]:
        raise UsageError(f"the model's shape lacks {', '.join(missing)}; or give a preset, a config.json, or --params.")
    width, heads = given["width"], given["heads"]
    # What is no shape at all (0 heads) is refused by the architecture itself, with the field's name.
    if "head_size" not in given and heads > 0 and width % heads:
        raise UsageError(f"heads is {heads}, which does not divide width {width}; give --head-size too.")
    given = {"kv_heads": heads, "head_size": width // max(heads, 1), **given}
    return Architecture(
        name="described", tied=tied, experts=experts, experts_active=experts_active, source="the numbers given", **given
    )
