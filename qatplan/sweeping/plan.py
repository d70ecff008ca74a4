"""The order of a graph's segments: which is next, which are trained together, tried again or given up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qatplan.sweeping.folder import SweepFolder
from qatplan.sweeping.graph import Graph, Segment, work_of

ATTEMPTS = 3
"""Times a segment is tried before it is given up."""
LOSSES = 20
"""Times its machine may be lost before a segment is given up: no fault of its own, yet it might be what kills them."""


class Plan:
    """Which segments are needed, ready, running or done. Only what missing runs depend on is executed."""

    def __init__(self, graph: Graph, folder: SweepFolder, finished: set[str], keep: bool) -> None:
        self.graph, self.folder, self.keep = graph, folder, keep
        self.finished = set(finished)
        self.saved = folder.checkpoints()
        self.failed: dict[str, str] = {}
        self.running: set[str] = set()
        self.needed = self._needed()
        parents = {name: graph.segments[name].parent for name in self.needed}
        self.unmet = {name: parent if parent in self.needed else None for name, parent in parents.items()}
        self.waiting = set(self.needed)
        self._children: dict[str, list[str]] = {name: [] for name in graph.segments}
        for name, parent in parents.items():
            if parent is not None:
                self._children[parent].append(name)
        self._length = self._path_lengths()
        self._attempts: dict[tuple[str, bool], int] = {}
        self._stacked: set[str] = set()
        """Running in a stack."""
        self._apart: set[str] = set()
        """To be executed alone, because a stack that they were in failed."""

    def _needed(self) -> set[str]:
        needed: set[str] = set()
        for run in self.graph.runs:
            if run.id in self.finished:
                continue
            name: str | None = run.id
            while name is not None and name not in needed:
                # Of a run whose end is saved the row alone is missing: it is evaluated from its own end.
                if name == run.id or name not in self.saved:
                    needed.add(name)
                name = None if name in self.saved else self.graph.segments[name].parent
        return needed

    def _path_lengths(self) -> dict[str, float]:
        """The work from each segment to the end of its longest branch."""
        length: dict[str, float] = {}
        for name in reversed(list(self.graph.segments)):
            if name not in self.needed:
                continue
            own = work_of(self.graph.segments[name])
            length[name] = own + max((length.get(child, 0.0) for child in self._children[name]), default=0.0)
        return length

    def must_save(self, name: str) -> bool:
        """Whether a segment must leave a checkpoint behind."""
        return self.keep or bool(self._children[name])

    def next(self, fits: Callable[[Segment], bool] = lambda segment: True) -> Segment | None:
        """The ready segment with the longest path behind it, among those that fit."""
        ready = [name for name in self.waiting if self.unmet[name] is None and fits(self.graph.segments[name])]
        return self._begin(max(ready, key=self._urgency)) if ready else None

    def next_stack(self, fits: Callable[[Sequence[Segment]], bool], most: Callable[[Segment], int]) -> list[Segment]:
        """The next segment and those ready that can be trained in one stack with it, `most` at most; empty if none."""
        first = self.next(lambda segment: fits([segment]))
        if first is None:
            return []
        stack = [first]
        size = 1 if first.config.stack is None or first.id in self._apart else most(first)
        for name in self._companions(first) if size > 1 else []:
            if len(stack) < size and fits([*stack, self.graph.segments[name]]):
                stack.append(self._begin(name))
        if len(stack) > 1:
            self._stacked.update(segment.id for segment in stack)
        return stack

    def _companions(self, first: Segment) -> list[str]:
        """What could be trained together with a segment, the most urgent first."""
        ready = [name for name in self.waiting if self.unmet[name] is None and name not in self._apart]
        alike = [name for name in ready if self.graph.segments[name].config.stack == first.config.stack]
        return sorted(alike, key=self._urgency, reverse=True)

    def _urgency(self, name: str) -> tuple[float, str]:
        return self._length[name], name

    def _begin(self, name: str) -> Segment:
        self.waiting.remove(name)
        self.running.add(name)
        return self.graph.segments[name]

    def _stop(self, name: str) -> None:
        self.running.discard(name)
        self._stacked.discard(name)

    def done(self, name: str) -> None:
        """Record a finished segment, free its children, and delete a parent's checkpoint that nobody needs now."""
        self._stop(name)
        self.needed.discard(name)
        if self.must_save(name):
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

    def set_apart(self, name: str) -> bool:
        """Have a segment that failed in a stack tried again alone; False if it was alone.

        It may be another's fault, so this is no attempt of its own.
        """
        if name not in self._stacked:
            return False
        self._stop(name)
        self._apart.add(name)
        self.waiting.add(name)
        return True

    def fail(self, name: str, message: str, *, lost: bool = False) -> bool:
        """Record a failed attempt, or one lost with its machine; True if the segment will be tried again."""
        self._stop(name)
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
