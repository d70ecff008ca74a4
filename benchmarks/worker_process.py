"""Lets a benchmark measure in the environment of a sweep's workers, which a process must have when it begins."""

from __future__ import annotations

import os
import sys

from qatplan.sweeping.engines.environment import KEEP_MEMORY, ONE_THREAD


def become_worker() -> None:
    """Begin this program anew with a worker's variables, unless it was begun with them.

    Other than a worker it keeps its own folder on Python's path, where its neighbours are.
    """
    if not KEEP_MEMORY.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD, **KEEP_MEMORY})
