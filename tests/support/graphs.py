"""Graphs of small specifications on a corpus that nobody reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qatplan.sweeping.graph import Graph, Machine, build
from qatplan.sweeping.specification import parse
from qatplan.training.corpus.corpus import CorpusInfo

CORPUS = CorpusInfo(
    label="t", digest="d", vocabulary=256, train_tokens=10**8, validation_tokens=10**6, bytes_per_token=1.0,
    item_type="uint8",
)  # fmt: skip
MACHINE = Machine(device="cpu", can_compile=True)


def graph(*grids: dict[str, Any], training: dict[str, Any] | None = None) -> Graph:
    content = {"corpus": {"name": "sotu"}, "training": training or {}, "grid": list(grids)}
    return build(parse(content, Path()), CORPUS, MACHINE)


GRID: dict[str, Any] = {
    "widths": [16, 24],
    "tokens": ["1M", "2M"],
    "bits": [2, 4],
    "fractions": [0, 0.1, 0.4, 1],
    "schedules": ["classic", "fused"],
    "seeds": [0, 1],
}
