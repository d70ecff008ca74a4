"""torch.compile for the harness: fixed shapes, one cache for all processes of a machine, each program compiled once.

torch keeps what it has compiled on disk (TORCHINDUCTOR_CACHE_DIR, by default a folder per user), so another worker or
a later sweep finds it. Workers that need the same program at the same moment take turns: the first compiles with all
cores, the others load what it left, instead of all compiling the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._inductor.runtime.cache_dir_utils import cache_dir

from qatplan.training.model.decoder import Forward


def compiled(forward: Forward, name: str) -> Forward:
    """`forward` through torch.compile; equal names stand for equal programs, in every process."""
    _keep_locks_here()
    # float32 is meant where it is asked for.
    warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")
    # Each shape and mode is one entry; a sweep has more sizes than the default limit of eight.
    torch._dynamo.config.recompile_limit = 64  # type: ignore[attr-defined]
    function: Callable[..., Any] = torch.compile(forward, dynamic=False)
    made: set[bool] = set()

    def call(weights: list[Tensor], tokens: Tensor, targets: Tensor) -> Tensor:
        # Training and evaluation are two programs.
        learning = torch.is_grad_enabled()
        if learning in made:
            return function(weights, tokens, targets)  # type: ignore[no-any-return]
        with _turn(f"{name} {learning}"):
            losses: Tensor = function(weights, tokens, targets)
        made.add(learning)
        return losses

    return call


def _keep_locks_here() -> None:
    """Have the progress bars of torch's compiler lock among threads alone.

    They are tqdm's, where it is installed, whose own lock is a semaphore of the system: one is left behind by each
    worker that ends by being killed, as they all do, and Python warns of it.
    """
    bar: Any = getattr(torch.hub, "tqdm", None)
    if hasattr(bar, "set_lock"):
        bar.set_lock(threading.RLock())


@contextlib.contextmanager
def _turn(name: str) -> Iterator[None]:
    """Hold a lock of this name among the processes that share the cache; the system frees it if the holder dies."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    digest = hashlib.sha256(f"{torch.__version__} {name}".encode()).hexdigest()[:20]
    path = Path(cache_dir()) / f"qatplan-{digest}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
