"""The worker's end of its connection to the driver: messages, a heartbeat, and the end when the driver is gone."""

from __future__ import annotations

import os
import signal
import threading
from multiprocessing.connection import Connection
from typing import Any

ORPHAN_SECONDS = 1.0
"""How often a worker looks whether its driver is still there."""


class Heartbeat:
    """A connection that two threads use: the one that trains, and one that says every so often that the worker lives.

    The second notices within a second that the driver is gone, also in the middle of a compilation, and then ends the
    worker with whatever processes it has started: the worker leads a process group of its own.
    """

    def __init__(self, connection: Connection, *, driver: int, beat_seconds: float) -> None:
        self.connection = connection
        self.driver = driver
        self.beat_seconds = beat_seconds
        self._sending = threading.Lock()
        threading.Thread(target=self._live, daemon=True).start()

    def send(self, message: Any) -> None:
        """Send the driver a message; None is a heartbeat and nothing else."""
        try:
            with self._sending:
                self.connection.send(message)
        except OSError:
            end_group()

    def receive(self) -> Any:
        """The driver's next order; ends the worker if there will be none."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            end_group()

    def _live(self) -> None:
        waited = 0.0
        pause = threading.Event()
        while not pause.wait(ORPHAN_SECONDS):
            if os.getppid() != self.driver:
                end_group()
            waited += ORPHAN_SECONDS
            if waited >= self.beat_seconds:
                self.send(None)
                waited = 0.0


def end_group() -> None:
    """Kill this process and all of its group."""
    os.killpg(0, signal.SIGKILL)
