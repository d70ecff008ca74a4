"""What the Ray engine runs on the nodes of a cluster: a look at the node, segments, and the board of messages.

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
from qatplan.sweeping.engines.engine import Attempt, Job, Order
from qatplan.sweeping.folder import SweepFolder
from qatplan.sweeping.graph import Machine
from qatplan.training.segment import numerics

if TYPE_CHECKING:
    from qatplan.sweeping.engines.worker import Executor


@dataclass(frozen=True, kw_only=True)
class Node:
    """What a worker of the cluster has."""

    machine: Machine
    gpu_bytes: int | None
    """Memory of its GPU; null on a CPU."""


class Board:
    """What workers report of their segments until the driver takes it: steps, or an end; one actor per sweep."""

    def __init__(self) -> None:
        self._messages: dict[tuple[int, str], Attempt | int] = {}

    def post(self, task: int, segment_id: str, message: Attempt | int) -> None:
        """A worker's message; the number of its task tells it from those of an earlier attempt."""
        self._messages[task, segment_id] = message

    def take(self) -> dict[tuple[int, str], Attempt | int]:
        """The last message of each task and segment, once."""
        taken, self._messages = self._messages, {}
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

    `board` is the handle of a `Board` actor, to which progress goes under the number `task`.
    """
    problem = _problem(job, version)
    if problem is not None:
        return {order.segment.id: Attempt(kind="failed", message=problem) for order in stack}
    ends: dict[str, Attempt] = {}

    def report(name: str, message: Attempt | int) -> None:
        if isinstance(message, Attempt):
            ends[name] = message
            if len(ends) == len(stack):
                return  # the result says it
        board.post.remote(task, name, message)

    _executor(job).attempt(stack, report)
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
    from qatplan.sweeping.engines.worker import Executor

    return Executor(job)
