"""What the Ray engine runs on the nodes of a cluster: a look at the node, segments, and the board of progress.

Imports neither Ray nor torch: a node reads this file before either is needed.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from qatplan.errors import QatplanError
from qatplan.quant import registry
from qatplan.sweep.engines.engine import Attempt, Job, Order
from qatplan.sweep.folder import SweepFolder
from qatplan.sweep.graph import Machine
from qatplan.training.segment import numerics

if TYPE_CHECKING:
    from qatplan.sweep.engines.worker import Executor


@dataclass(frozen=True, kw_only=True)
class Node:
    """What a worker of the cluster has."""

    machine: Machine
    gpu_bytes: int | None
    """Memory of its GPU; null on a CPU."""


class Board:
    """What workers said of their segments since the driver last looked: steps, or an end; one actor per sweep."""

    def __init__(self) -> None:
        self._said: dict[tuple[int, str], Attempt | int] = {}

    def tell(self, task: int, segment_id: str, said: Attempt | int) -> None:
        """A worker's news; the number of its task tells them from those of an earlier attempt."""
        self._said[task, segment_id] = said

    def take(self) -> dict[tuple[int, str], Attempt | int]:
        """All news, once, by task and segment."""
        taken, self._said = self._said, {}
        return taken


def look(device: str) -> Node | str:
    """What this node offers, or in one sentence why it cannot train."""
    from qatplan.training.runtime import can_compile, gpu_bytes, resolve_device

    try:
        resolved = resolve_device(device)
    except QatplanError as error:
        return str(error)
    memory = gpu_bytes() if resolved == "cuda" else None
    return Node(machine=Machine(device=resolved, can_compile=can_compile(resolved)), gpu_bytes=memory)


def code_version() -> str:
    """The version of the training code, whatever is quantized."""
    return numerics(entry.name for entry in registry.ENTRIES)


def attempt(job: Job, version: str, stack: Sequence[Order], task: int, board: Any) -> dict[str, Attempt]:
    """Execute a segment, or several as a stack, on this node; how each attempt ended, by segment.

    `board` is the handle of a `Board` actor, which learns under the number `task` how it goes.
    """
    problem = _problem(job, version)
    if problem is not None:
        return {order.segment.id: Attempt(kind="failed", message=problem) for order in stack}
    ends: dict[str, Attempt] = {}

    def tell(name: str, said: Attempt | int) -> None:
        if isinstance(said, Attempt):
            ends[name] = said
            if len(ends) == len(stack):
                return  # the result says it
        board.tell.remote(task, name, said)

    _executor(job).attempt(stack, tell)
    return ends


def _problem(job: Job, version: str) -> str | None:
    """Why this node cannot work for a sweep, in one sentence."""
    own = code_version()
    if version != own:
        return (
            f"node {platform.node()} has another version of the training code (numerics {own}, the driver's is "
            f"{version}); install the same qatplan on all nodes."
        )
    try:
        seen = SweepFolder(job.folder).identity.exists()
    except QatplanError:
        seen = False  # an object store that this node has no credentials for
    if not seen:
        return (
            f"node {platform.node()} does not see {job.folder}; the Ray engine needs --out on storage that all nodes "
            "share."
        )
    return None


@lru_cache(maxsize=1)
def _executor(job: Job) -> Executor:
    """Kept between the tasks of a worker process, so that the corpus is opened and a shape compiled once."""
    from qatplan.sweep.engines.worker import Executor

    return Executor(job)
