"""One thread per process: the tests run in as many processes as there are cores, the longest files first."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

LONGEST = [
    *("test_ray_engine", "test_engine", "test_watching", "test_examples"),
    *("test_trainer", "test_stack", "test_score"),
]
"""Files that take a minute and more, the longest first: begun last, one would keep a core waiting for the other."""

# Before anything loads a linear-algebra library.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files begin first."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="session", autouse=True)
def _commands_can_be_interrupted() -> Iterator[None]:
    """Under nohup or in the background signals are ignored, and what a test starts would inherit that."""
    ignored = [n for n in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.default_int_handler)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
