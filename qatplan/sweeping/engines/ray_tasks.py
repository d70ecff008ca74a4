"""What the Ray engine runs on the nodes of a cluster: a look at the node, segments, and the board of messages.

Imports neither Ray nor torch: a node reads this file before either is needed.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from qatplan.errors import QatplanError
from qatplan.quant import registry
from qatplan.sweeping.engines.engine import Event, Job, Order, look
from qatplan.sweeping.folder import SweepFolder
from qatplan.sweeping.graph import Machine
from qatplan.training.segment import numerics

if TYPE_CHECKING:
    from qatplan.sweeping.engines.worker import Executor


class Board:
    """What workers report of their segments until the driver takes it: steps, or an end; one actor per sweep."""

    def __init__(self) -> None:
        self._events: dict[tuple[int, str], Event] = {}

    def post(self, task: int, event: Event) -> None:
        """What a worker reports; the number of its task tells it from that of an earlier attempt."""
        self._events[task, event.segment.id] = event

    def take(self) -> dict[tuple[int, str], Event]:
        """The last event of each task and segment, once."""
        taken, self._events = self._events, {}
        return taken


def look_here(device: str) -> Machine | str:
    """What this node offers, or in one sentence why it cannot train."""
    try:
        return look(device)
    except QatplanError as error:
        return str(error)


def code_version() -> str:
    """The version of the training code, whatever is quantized."""
    return numerics(entry.name for entry in registry.ENTRIES)


def attempt(job: Job, version: str, stack: Sequence[Order], task: int, board: Any) -> dict[str, Event]:
    """Execute a segment, or several as a stack, on this node; how each attempt ended, by segment.

    `board` is the handle of a `Board` actor, to which progress goes under the number `task`.
    """
    problem = _problem(job, version)
    if problem is not None:
        return {order.segment.id: Event(kind="failed", segment=order.segment, message=problem) for order in stack}
    ends: dict[str, Event] = {}

    def report(event: Event) -> None:
        if event.kind != "progress":
            ends[event.segment.id] = event
            if len(ends) == len(stack):
                return  # the result says it
        board.post.remote(task, event)

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
