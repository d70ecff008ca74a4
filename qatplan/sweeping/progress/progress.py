"""Reporting how a sweep goes: engine events and a clock tick, handed to everything that shows or records it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from qatplan.errors import SweepIncomplete
from qatplan.sweeping.engines.engine import Event
from qatplan.sweeping.graph import Graph
from qatplan.sweeping.progress.state import ProgressState, Snapshot, State

TICK_SECONDS = 0.5


class Watcher:
    """Something that shows or records a sweep; what it leaves out does nothing. Never called by two threads at once.

    Watching must not stop a sweep: a watcher that cannot write notifies once and goes on without.
    """

    def begin(self, snapshot: Snapshot) -> None:
        """Before the first event."""

    def event(self, event: Event, snapshot: Snapshot) -> None:
        """Something happened to a segment; the snapshot has it counted."""

    def tick(self, snapshot: Snapshot) -> None:
        """About twice a second, whether or not something happened: during a long compilation no event comes."""

    def end(self, snapshot: Snapshot) -> None:
        """After the last event, also when the sweep was interrupted; `snapshot.state` says how it ended."""


class Progress(ProgressState):
    """The engine's `report`: counts events and passes them on; used as a context manager around the engine."""

    def __init__(self, graph: Graph, needed: set[str], recorded: int, watchers: Sequence[Watcher]) -> None:
        super().__init__(graph, needed, recorded, time.monotonic)
        self._watchers = watchers
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._clock = threading.Thread(target=self._tick, name="qatplan-progress", daemon=True)

    def __enter__(self) -> Progress:
        snapshot = self.snapshot()
        for watcher in self._watchers:
            watcher.begin(snapshot)
        self._clock.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *failure: object) -> None:
        self._over.set()
        self._clock.join()
        state: State = "incomplete" if self._given_up else "complete"
        if kind is not None:
            state = "interrupted" if issubclass(kind, KeyboardInterrupt | SweepIncomplete) else "stopped"
        snapshot = self.snapshot(state)
        for watcher in self._watchers:
            watcher.end(snapshot)

    def __call__(self, event: Event) -> None:
        """Take in one event of the engine."""
        with self._lock:
            self.take(event)
            snapshot = self.snapshot()
            for watcher in self._watchers:
                watcher.event(event, snapshot)

    def _tick(self) -> None:
        while not self._over.wait(TICK_SECONDS):
            with self._lock:
                snapshot = self.snapshot()
                for watcher in self._watchers:
                    watcher.tick(snapshot)
