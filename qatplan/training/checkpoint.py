"""The state between two segments as one file: published whole, with its digest and its name, verified on read."""

from __future__ import annotations

import hashlib
import io
import json
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from qatplan.errors import DataError
from qatplan.storage.base import Entry

MAGIC = b"qatplan state 1 "
PLAIN = ("step", "status", "seconds")
TENSORS = {
    "weights": "weights", "moments": "moments", "ranges": "ranges", "starts": "range_starts",
    "transition": "transition_state",
}  # fmt: skip
"""By its key in the file, the field of `State`."""


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
    stack: int = 1
    """The most branches that were trained in one stack with it, itself included."""


def save(state: State, entry: Entry) -> None:
    """Publish a state as one file: a line with the digest of what follows, a line of JSON, the tensors.

    One file and not two, so that there is no moment at which an older state is gone and the newer not yet whole.
    """
    header: dict[str, Any] = {
        "name": entry.name,
        **{name: getattr(state, name) for name in PLAIN},
        "curve": [[tokens, loss if math.isfinite(loss) else None] for tokens, loss in state.curve],
        "first_losses": [loss if math.isfinite(loss) else None for loss in state.first_losses],
        "transitions": state.transitions,
        "together": state.stack,
    }
    buffer = io.BytesIO()
    torch.save({key: getattr(state, name) for key, name in TENSORS.items()}, buffer)
    content = json.dumps(header, allow_nan=False).encode() + b"\n" + buffer.getbuffer()
    entry.write(MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def load(entry: Entry, device: torch.device | None = None) -> State:
    """Read a state; FileNotFoundError if there is none, DataError if it is damaged or that of another segment."""
    data = entry.read()
    start = len(MAGIC) + 65
    content = memoryview(data)[start:]
    if data[:start] != MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n":
        raise DataError(f"checkpoint {entry} is damaged: its digest is not the recorded one.")
    end = data.index(b"\n", start)
    header = json.loads(data[start:end])
    if header["name"] != entry.name:
        raise DataError(f"checkpoint {entry} is another segment's: it was written as {header['name']}.")
    tensors = torch.load(io.BytesIO(memoryview(data)[end + 1 :]), weights_only=True, map_location=device)
    return State(
        **{name: header[name] for name in PLAIN},
        **{name: tensors[key] for key, name in TENSORS.items()},
        curve=[(tokens, float("nan") if loss is None else loss) for tokens, loss in header["curve"]],
        first_losses=[float("nan") if loss is None else loss for loss in header["first_losses"]],
        transitions=[(tokens, share, target) for tokens, share, target in header["transitions"]],
        stack=header.get("together", 1),
    )
