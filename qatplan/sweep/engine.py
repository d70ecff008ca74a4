"""What executes a graph: the order of its segments, and the interface of the engines that carry them out.

Correctness lives in no engine: any segment may be executed any number of times, anywhere (`qatplan.sweep.worker`). An
engine only says where; which segment is next, tried again or given up is the plan's, the same for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from qatplan.sweep.folder import SweepFolder
from qatplan.sweep.graph import Graph, Machine, Segment, work_of

ATTEMPTS = 3
"""Times a segment is tried before it is given up."""
LOSSES = 20
"""Times its machine may be lost before a segment is given up: no fault of its own, yet it might be what kills them."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a segment: `started`, `progress` (steps), `done`, `retried` or `failed` (message).

    A `remark` (message) changes nothing. Engines also say `lost` (message), an attempt that ended with its machine, and
    `blocked` (message), one that could not begin; `run` reports both as `retried` or `failed`.
    """

    kind: str
    segment: Segment
    steps: int = 0
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How one execution of a segment ended, as its worker tells."""

    kind: Literal["done", "failed", "blocked"]
    """blocked: the state of its parent is missing or damaged, so that the parent must be executed again first."""
    message: str = ""
    remarks: tuple[str, ...] = ()
    """What people should know although it did no harm, such as a damaged checkpoint that was made again."""

    def events(self, segment: Segment) -> Iterator[Event]:
        """What the engine says of it."""
        for remark in self.remarks:
            yield Event(kind="remark", segment=segment, message=remark)
        yield Event(kind=self.kind, segment=segment, message=self.message)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every worker of a sweep must know beside its segment."""

    folder: str
    """Its location, as seen from anywhere on this machine."""
    sweep_id: str
    device: str
    """`cpu` or `cuda`."""
    keep: bool
    """Whether checkpoints stay when nobody needs them."""
    save_seconds: float = 60.0
    """Time between the states saved within a segment."""


class Engine(ABC):
    """Where segments are executed. It is asked for its machine, started once, fed and listened to, and closed."""

    @abstractmethod
    def machine(self, device: str) -> Machine:
        """What segments will run on if `device` is asked for; UsageError if there is no such device."""

    @abstractmethod
    def start(self, job: Job, segments: int) -> None:
        """Get ready to execute that many segments of a job."""

    @abstractmethod
    def has_room(self) -> bool:
        """Whether another segment could start now; always true of an engine that executes none."""

    @abstractmethod
    def fits(self, segment: Segment) -> bool:
        """Whether this segment could start beside those that are running; always true if none is."""

    @abstractmethod
    def give(self, segment: Segment, has_children: bool) -> None:
        """Begin a segment; it must leave a checkpoint behind if it has children."""

    @abstractmethod
    def listen(self) -> Iterable[Event]:
        """What happened to the segments given: `progress`, `remark`, or how an attempt ended; waits about a second.

        Progress may be late or missing. `failed` is the end of one attempt, also where its worker process died.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop what still runs and every process that the engine started."""


def run(plan: Plan, engine: Engine, report: Callable[[Event], None]) -> dict[str, str]:
    """Carry out a plan on a started engine; returns the segments given up, by id, with the reason of each."""
    while plan.waiting or plan.running:
        while engine.has_room() and (segment := plan.next(engine.fits)) is not None:
            engine.give(segment, plan.has_needed_children(segment.id))
            report(Event(kind="started", segment=segment))
        if not plan.running:
            # An engine with nothing to do has room for anything, and what hangs on failures is no longer waiting.
            raise RuntimeError(f"{len(plan.waiting)} segments wait for nothing that is executed: {min(plan.waiting)}.")
        for event in engine.listen():
            if event.kind == "done":
                plan.done(event.segment.id)
            elif event.kind in ("failed", "lost", "blocked"):
                again = plan.fail(event.segment.id, event.message, lost=event.kind == "lost")
                if again and event.kind == "blocked":
                    plan.restore_parent(event.segment.id)
                event = replace(event, kind="retried" if again else "failed")
            report(event)
    return plan.failed


class Plan:
    """Which segments are needed, ready, running or done. Only what missing runs depend on is executed."""

    def __init__(self, graph: Graph, folder: SweepFolder, finished: set[str], keep: bool) -> None:
        self.graph, self.folder, self.keep = graph, folder, keep
        self.finished = set(finished)
        self.saved = folder.checkpoints()
        self.failed: dict[str, str] = {}
        self.running: set[str] = set()
        self.needed = self._needed()
        self.unmet = {name: self._unmet_parent(name) for name in self.needed}
        self.waiting = set(self.needed)
        self._children: dict[str, list[str]] = {name: [] for name in graph.segments}
        for name in self.needed:
            parent = graph.segments[name].parent
            if parent is not None:
                self._children[parent].append(name)
        self._length = self._path_lengths()
        self._attempts: dict[tuple[str, bool], int] = {}

    def _needed(self) -> set[str]:
        needed: set[str] = set()
        for run in self.graph.runs:
            if run.id in self.finished:
                continue
            name: str | None = run.id
            while name is not None and name not in needed:
                if name in self.saved and name == run.id:
                    needed.add(name)  # its row alone is missing: it is evaluated from its own end
                if name in self.saved:
                    break
                needed.add(name)
                name = self.graph.segments[name].parent
        return needed

    def _unmet_parent(self, name: str) -> str | None:
        parent = self.graph.segments[name].parent
        return parent if parent in self.needed else None

    def _path_lengths(self) -> dict[str, float]:
        """The work from each segment to the end of its longest branch."""
        length: dict[str, float] = {}
        for name in reversed(list(self.graph.segments)):
            if name not in self.needed:
                continue
            own = work_of(self.graph.segments[name])
            length[name] = own + max((length.get(child, 0.0) for child in self._children[name]), default=0.0)
        return length

    def has_needed_children(self, name: str) -> bool:
        """Whether a segment must leave a checkpoint behind."""
        return bool(self._children[name])

    def next(self, fits: Callable[[Segment], bool] = lambda segment: True) -> Segment | None:
        """The ready segment with the longest path behind it, among those that fit."""
        ready = [name for name in self.waiting if self.unmet[name] is None and fits(self.graph.segments[name])]
        if not ready:
            return None
        name = max(ready, key=lambda candidate: (self._length[candidate], candidate))
        self.waiting.remove(name)
        self.running.add(name)
        return self.graph.segments[name]

    def done(self, name: str) -> None:
        """Record a finished segment, free its children, and delete a parent's checkpoint that nobody needs now."""
        self.running.discard(name)
        self.needed.discard(name)
        if self._children[name] or self.keep:
            self.saved.add(name)
        for child in self._children[name]:
            self.unmet[child] = None
        parent = self.graph.segments[name].parent
        if parent is None or self.keep or parent in self.needed:
            return
        if not any(child in self.needed for child in self._children[parent]):
            self.folder.checkpoint(parent).remove()
            self.saved.discard(parent)

    def restore_parent(self, child: str) -> None:
        """Have the parent of a waiting segment made again, because its saved end cannot be used.

        So are the ancestors it needs whose own end is no longer there.
        """
        parent = self.graph.segments[child].parent
        if parent is not None:
            self.saved.discard(parent)
        while parent is not None and parent not in self.saved:
            if child not in self._children[parent]:
                self._children[parent].append(child)
            self.unmet[child] = parent
            if parent in self.failed:
                self._give_up(child, f"a segment before it failed: {self.failed[parent]}")
            if parent in self.needed:
                break
            self.needed.add(parent)
            self.waiting.add(parent)
            for sibling in self._children[parent]:
                if sibling in self.waiting:
                    self.unmet[sibling] = parent
            child, parent = parent, self.graph.segments[parent].parent
        else:
            self.unmet[child] = None
        self._length = self._path_lengths()

    def fail(self, name: str, message: str, *, lost: bool = False) -> bool:
        """Record a failed attempt, or one lost with its machine; True if the segment will be tried again."""
        self.running.discard(name)
        self._attempts[name, lost] = self._attempts.get((name, lost), 0) + 1
        if self._attempts[name, lost] < (LOSSES if lost else ATTEMPTS):
            self.waiting.add(name)
            return True
        self._give_up(name, message)
        return False

    def _give_up(self, name: str, message: str) -> None:
        """Record why a segment is not tried again, and that nothing after it can be."""
        self.failed[name] = message
        self.waiting.discard(name)
        stack = list(self._children[name])
        while stack:
            child = stack.pop()
            self.waiting.discard(child)
            self.failed[child] = f"a segment before it failed: {message}"
            stack.extend(self._children[child])
