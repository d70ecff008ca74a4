"""What the Ray engine runs on the nodes of a cluster: a look at the node, a segment, and the board of progress.

Imports neither Ray nor torch: a node reads this file before either is needed.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from qatplan.errors import QatplanError
from qatplan.sweep.engine import Attempt, Job
from qatplan.sweep.folder import SweepFolder
from qatplan.sweep.graph import Machine, Segment
from qatplan.training.segment import NUMERICS

if TYPE_CHECKING:
    from qatplan.sweep.worker import Executor


@dataclass(frozen=True, kw_only=True)
class Node:
    """What a worker of the cluster has."""

    machine: Machine
    gpu_bytes: int | None
    """Memory of its GPU; null on a CPU."""


class Board:
    """Steps done by segment since the driver last looked; one actor per sweep."""

    def __init__(self) -> None:
        self._steps: dict[str, int] = {}

    def tell(self, segment_id: str, steps: int) -> None:
        """A worker's news."""
        self._steps[segment_id] = steps

    def take(self) -> dict[str, int]:
        """All news, once."""
        taken, self._steps = self._steps, {}
        return taken


def look(device: str) -> Node | str:
    """What this node offers, or in one sentence why it cannot train."""
    import torch

    from qatplan.training.runtime import can_compile, resolve_device

    try:
        resolved = resolve_device(device)
    except QatplanError as error:
        return str(error)
    memory = torch.cuda.get_device_properties(0).total_memory if resolved == "cuda" else None
    return Node(machine=Machine(device=resolved, can_compile=can_compile(resolved)), gpu_bytes=memory)


def attempt(job: Job, numerics: str, segment: Segment, has_children: bool, board: Any) -> Attempt:
    """Execute a segment on this node.

    `board` is the handle of a `Board` actor.
    """
    if numerics != NUMERICS:
        return Attempt(
            kind="failed",
            message=f"node {platform.node()} has another version of the training code (numerics {NUMERICS}, the "
            f"driver's is {numerics}); install the same qatplan on all nodes.",
        )
    try:
        seen = SweepFolder(job.folder).identity.exists()
    except QatplanError:
        seen = False  # an object store that this node has no credentials for
    if not seen:
        return Attempt(
            kind="failed",
            message=f"node {platform.node()} does not see {job.folder}; the Ray engine needs --out on storage that all "
            "nodes share.",
        )

    def watch(steps: int) -> None:
        board.tell.remote(segment.id, steps)

    return _executor(job).attempt(segment, has_children, watch)


@lru_cache(maxsize=1)
def _executor(job: Job) -> Executor:
    """Kept between the tasks of a worker process, so that the corpus is opened and a shape compiled once."""
    from qatplan.sweep.worker import Executor

    return Executor(job)
