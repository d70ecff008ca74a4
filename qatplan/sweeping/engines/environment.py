"""The environment of worker processes: what must be set before they load their libraries, and where these come from."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
"""Two one-thread processes beat one of two threads; waiting threads must not spin on a core that another one needs."""

KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
"""For glibc: keep up to 1 GiB of what a step frees for the next step, which else pays a page fault for every 4 KiB."""

SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""A `queue.py` in the folder where the command was started is no library of ours: Python does not look there."""

WORKER = {**ONE_THREAD, **KEEP_MEMORY, **SAFE_PATH}


def library_paths() -> list[str]:
    """Where this process finds its libraries, without the current folder; qatplan itself may lie there, last."""
    root, here = str(Path(__file__).resolve().parents[3]), os.getcwd()
    paths = [path for path in sys.path if path and os.path.realpath(path) != here]
    return paths if root in paths else [*paths, root]


def give_back_memory() -> None:
    """Return to the system what was freed and kept, where the C library can."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables that a process started meanwhile must find."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
