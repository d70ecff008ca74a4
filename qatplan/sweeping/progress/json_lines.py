"""Events for programs: one JSON object per line, each complete in itself.

`start` and `end` carry the whole snapshot (`qatplan.sweeping.progress.state.Snapshot`); `started`, `progress`,
`done`, `retried`, `failed` and `remark` carry their segment and the totals. Every object has `event` and `time` (UTC,
ISO 8601).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, TextIO

from qatplan.sweeping.engines.engine import Event
from qatplan.sweeping.graph import Segment
from qatplan.sweeping.progress.progress import Watcher
from qatplan.sweeping.progress.state import Snapshot


class JsonLines(Watcher):
    """Writes events to `stream`, no ticks. If its reader goes, it goes on without, and `notify` is called once."""

    def __init__(self, stream: TextIO, notify: Callable[[str], None]) -> None:
        self._stream: TextIO | None = stream
        self._notify = notify

    def begin(self, snapshot: Snapshot) -> None:
        self._write("start", asdict(snapshot))

    def event(self, event: Event, snapshot: Snapshot) -> None:
        steps = {"steps": event.steps} if event.kind == "progress" else {}
        message = {"message": event.message} if event.message else {}
        self._write(event.kind, {**describe(event.segment), **steps, **message, **_totals(snapshot)})

    def end(self, snapshot: Snapshot) -> None:
        self._write("end", asdict(snapshot))

    def _write(self, name: str, content: dict[str, Any]) -> None:
        if self._stream is None:
            return
        record = {"event": name, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **content}
        try:
            self._stream.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
            self._stream.flush()
        except OSError as error:
            self._notify(f"--json-lines: events cannot be written ({error.strerror}); the sweep goes on without them.")
            _silence(self._stream)
            self._stream = None


def describe(segment: Segment) -> dict[str, Any]:
    """What a segment is, as plain values; missing is null."""
    config, quantization = segment.config, segment.config.quantization
    return {
        "segment": segment.id,
        "parent": segment.parent,
        "kind": config.kind,
        "is_run": config.evaluate,
        "width": config.shape.width,
        "n_total": config.shape.n_total,
        "seed": config.seed,
        "d_total": config.end_tokens,
        "tokens": config.tokens,
        "of_steps": config.end - config.start,
        "bits": config.bits,
        "quantizer": quantization.quantizer if quantization else None,
        "schedule": segment.schedule,
    }


def _totals(snapshot: Snapshot) -> dict[str, Any]:
    names = ("recorded", "runs", "given_up", "retried", "tokens_per_second", "seconds", "seconds_left")
    return {"sweep": {name: getattr(snapshot, name) for name in names}}


def _silence(stream: TextIO) -> None:
    """Point a broken stream at nothing, so that closing it at exit raises no second error."""
    with contextlib.suppress(OSError, ValueError):  # not a file of the system, for instance a buffer
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
