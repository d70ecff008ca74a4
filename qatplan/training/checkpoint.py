"""The state between two segments, on disk: written atomically, a marker with its digest last, verified on read."""

from __future__ import annotations

import hashlib
import io
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qatplan import atomic
from qatplan.errors import DataError


@dataclass(frozen=True, kw_only=True)
class State:
    """A model in training.

    `weights` by name; `moments` what the optimizer remembers by parameter name; `ranges` the learned range
    parameters of the quantizers by name, `range_starts` where they started; `curve` the training loss so far as
    (tokens, loss) pairs; `first_losses` the loss of the untrained model and of the freshly quantized one;
    `transitions` the share of weights that changed code in a step as (tokens, share, target); `transition_state` what
    the scheduler of that share goes on from.
    """

    step: int
    weights: dict[str, Tensor]
    moments: dict[str, dict[str, Tensor]]
    ranges: dict[str, Tensor] = field(default_factory=dict)
    range_starts: dict[str, Tensor] = field(default_factory=dict)
    curve: list[tuple[int, float]] = field(default_factory=list)
    first_losses: list[float] = field(default_factory=list)
    transitions: list[tuple[int, float, float]] = field(default_factory=list)
    transition_state: dict[str, Tensor] = field(default_factory=dict)
    status: str = "finished"
    seconds: float = 0.0
    """Time spent in this segment, over all its attempts that left a checkpoint."""


def save(state: State, path: Path) -> None:
    """Write `path` (tensors) and then `path` with suffix .json (the marker with their digest)."""
    buffer = io.BytesIO()
    tensors = {"weights": state.weights, "moments": state.moments, "ranges": state.ranges,
               "starts": state.range_starts, "transition": state.transition_state}  # fmt: skip
    torch.save(tensors, buffer)
    data = buffer.getvalue()
    atomic.write_bytes(path, data)
    marker: dict[str, Any] = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "step": state.step,
        "curve": [[tokens, loss if math.isfinite(loss) else None] for tokens, loss in state.curve],
        "first_losses": state.first_losses,
        "transitions": state.transitions,
        "status": state.status,
        "seconds": state.seconds,
    }
    atomic.write_json(path.with_suffix(".json"), marker)


def load(path: Path, device: torch.device | None = None) -> State:
    """Read a state; DataError if it is missing, damaged, or not the one its marker names."""
    try:
        marker = json.loads(path.with_suffix(".json").read_text())
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"checkpoint {path} cannot be read: {error}.") from error
    if hashlib.sha256(data).hexdigest() != marker.get("sha256"):
        raise DataError(f"checkpoint {path} is damaged: its digest is not the recorded one.")
    tensors = torch.load(io.BytesIO(data), weights_only=True, map_location=device)
    return State(
        step=marker["step"],
        weights=tensors["weights"],
        moments=tensors["moments"],
        ranges=tensors["ranges"],
        range_starts=tensors["starts"],
        curve=[(tokens, float("nan") if loss is None else loss) for tokens, loss in marker["curve"]],
        first_losses=marker["first_losses"],
        transitions=[(tokens, share, target) for tokens, share, target in marker["transitions"]],
        transition_state=tensors["transition"],
        status=marker["status"],
        seconds=marker["seconds"],
    )


def remove(path: Path) -> None:
    """Delete a checkpoint, marker first, so that what is left is never taken for whole."""
    path.with_suffix(".json").unlink(missing_ok=True)
    path.unlink(missing_ok=True)
