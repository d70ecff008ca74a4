"""Segments executed by hand, without an engine."""

from __future__ import annotations

from qatplan.sweeping.engines.engine import Event, Order
from qatplan.sweeping.engines.worker import execute
from qatplan.sweeping.folder import SweepFolder
from qatplan.sweeping.graph import Segment
from qatplan.training.runtime import Runtime


def end_of(
    segment: Segment, folder: SweepFolder, runtime: Runtime, *, sweep_id: str = "s", save_end: bool = False,
    save_seconds: float = 60.0,
) -> Event:  # fmt: skip
    """How an attempt at a segment ended."""
    events: list[Event] = []
    order = Order(segment=segment, save_end=save_end)
    execute([order], folder, runtime, sweep_id, events.append, save_seconds)
    assert [event.kind for event in events[:-1]] == ["progress"] * (len(events) - 1), "the end is told once and last"
    return events[-1]
