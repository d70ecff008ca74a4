"""What a running sweep shows on stderr: a live bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from qatplan.sweep.engine import Event
from qatplan.sweep.graph import Graph, Segment, work_of
from qatplan.units import format_count, format_duration

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_SECONDS = 20.0


class Progress:
    """Counts runs, tokens and time left from engine events; used as a context manager."""

    def __init__(self, graph: Graph, needed: set[str], finished: int, console: Console) -> None:
        self.console = console
        self.total_runs = len(graph.runs)
        self.runs = finished
        self.failed = 0
        self.started = time.monotonic()
        self.todo = {name: work_of(graph.segments[name]) for name in needed}
        self.all_work = sum(self.todo.values())
        self.work = 0.0
        self.tokens = 0.0
        self.current: dict[str, int] = {}
        self._last = self.started
        self._live: Any = None
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Live

            self._live = Live(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rest]}"),
                              console=self.console)  # fmt: skip
            self._live.start()
            self._bar = self._live.add_task("", total=self.all_work or 1.0, rest="")
        return self

    def __exit__(self, *failure: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        """Take in one event of the engine."""
        segment = event.segment
        if event.kind == "progress":
            self._advance(segment, event.steps)
        elif event.kind == "done":
            self._advance(segment, segment.config.end - segment.config.start)
            if segment.config.kind == "round":  # it has no steps to advance by
                self.work += work_of(segment)
            self.current.pop(segment.id, None)
            self.runs += segment.config.evaluate
        elif event.kind in ("retried", "failed"):
            self._advance(segment, 0)
            self.failed += event.kind == "failed"
            verb = "is tried again" if event.kind == "retried" else "was given up"
            self.console.print(f"segment {segment.id} {verb}: {event.message}", highlight=False, markup=False)
        elif event.kind == "remark":
            self.console.print(event.message, highlight=False, markup=False)
        self._show()

    def _advance(self, segment: Segment, steps: int) -> None:
        change = steps - self.current.get(segment.id, 0)
        self.current[segment.id] = steps
        length = max(1, segment.config.end - segment.config.start)
        self.tokens += change * segment.config.sequences * segment.config.sequence
        self.work += change / length * work_of(segment)

    def line(self) -> str:
        """Runs done, tokens per second, time left."""
        elapsed = time.monotonic() - self.started
        left = (self.all_work - self.work) * elapsed / self.work if self.work > 0 and elapsed > 2 else None
        parts = [
            f"{self.runs} of {self.total_runs} runs",
            f"{format_count(self.tokens / elapsed) if elapsed > 1 and self.tokens > 0 else '?'} tokens/s",
            f"{format_duration(left) if left is not None else '?'} left",
        ]
        return ", ".join(parts) + (f", {self.failed} failed" if self.failed else "")

    def _show(self) -> None:
        if self._live is not None:
            self._live.update(self._bar, completed=self.work, description=f"{self.runs}/{self.total_runs} runs",
                              rest=self.line().split(", ", 1)[1])  # fmt: skip
        elif time.monotonic() - self._last > PLAIN_SECONDS:
            self._last = time.monotonic()
            self.console.print(self.line(), highlight=False, markup=False)
