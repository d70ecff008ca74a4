"""The count behind every view of a running sweep: engine events in, an immutable snapshot out. No screen, no files."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from qatplan.sweeping.engines.engine import Event
from qatplan.sweeping.graph import Graph, Segment, timed_tokens, work_of
from qatplan.units import format_count

State = Literal["running", "complete", "incomplete", "interrupted", "stopped"]
"""complete: every run is recorded. incomplete: some segments were given up. interrupted: Ctrl-C. stopped: the driver
ended in another way."""

KINDS = {"trunk": "trunk pieces", "cooldown": "cooldowns", "qat": "QAT phases", "round": "roundings"}
"""The kinds of segments in the order of the work, as people read them."""

RATE_SECONDS = 60.0
"""Tokens per second are over this last stretch of time: compilation and evaluation make any instant meaningless."""
KEPT_TROUBLES = 20


@dataclass(frozen=True, kw_only=True)
class Count:
    """Segments of one kind; what is neither done, running nor given up is waiting."""

    total: int
    done: int
    running: int
    given_up: int


@dataclass(frozen=True, kw_only=True)
class Running:
    """A segment that a worker has in hand."""

    segment: str
    label: str
    steps: int
    of_steps: int
    seconds: float
    """Since it was handed out, loading and compilation included."""


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """A failed attempt at a segment."""

    segment: str
    label: str
    message: str
    given_up: bool
    """False if it is tried again."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Where a sweep stands, as plain values."""

    state: State
    runs: int
    recorded: int
    """Runs whose row exists, those of earlier commands included."""
    given_up: int
    """Segments given up, with those that hang on them."""
    retried: int
    tokens: int
    """Trained by this command."""
    tokens_per_second: float | None
    done: float
    """Share of this command's work."""
    seconds: float
    seconds_left: float | None
    kinds: dict[str, Count]
    running: tuple[Running, ...]
    troubles: tuple[Trouble, ...]
    """The last ones."""


class ProgressState:
    """Takes in events of any engine; `now` is a monotonic clock in seconds."""

    def __init__(self, graph: Graph, needed: set[str], recorded: int, now: Callable[[], float]) -> None:
        self._now, self._graph, self.recorded = now, graph, recorded
        self._started = now()
        self._runs = len(graph.runs)
        self._left = set(needed)
        self._total = Counter[str](segment.config.kind for segment in graph.segments.values())
        self._remaining = Counter[str](graph.segments[name].config.kind for name in needed)
        self._all_work = sum(work_of(graph.segments[name]) for name in needed)
        self._work, self._tokens = 0.0, 0
        """Of segments that are done."""
        self._since: dict[str, float] = {}
        self._steps: dict[str, int] = {}
        self._given_up: set[str] = set()
        self._lost_work = 0.0
        self._retried = 0
        self._troubles: deque[Trouble] = deque(maxlen=KEPT_TROUBLES)
        self._samples: deque[tuple[float, int]] = deque([(self._started, 0)])

    def take(self, event: Event) -> None:
        """Take in one event. A segment that is tried again starts from nothing, whatever it had reported."""
        segment, kind = event.segment, event.segment.config.kind
        if event.kind == "started":
            if segment.id not in self._left:  # made again, for instance because its checkpoint was damaged
                self._left.add(segment.id)
                self._remaining[kind] += 1
                self._all_work += work_of(segment)
            self._since[segment.id], self._steps[segment.id] = self._now(), 0
        elif event.kind == "progress":
            self._steps[segment.id] = event.steps
        elif event.kind in ("done", "retried", "failed"):
            for known in (self._since, self._steps):
                known.pop(segment.id, None)
        if event.kind == "done":
            self._left.discard(segment.id)
            self._remaining[kind] -= 1
            self.recorded += segment.config.evaluate
            self._work += work_of(segment)
            self._tokens += segment.config.tokens
        elif event.kind in ("retried", "failed"):
            given_up = event.kind == "failed"
            self._retried += not given_up
            if given_up:
                self._give_up(segment.id)
            self._troubles.append(
                Trouble(segment=segment.id, label=label(segment), message=event.message, given_up=given_up)
            )

    def snapshot(self, state: State = "running") -> Snapshot:
        """Where the sweep stands now."""
        now, segments = self._now(), self._graph.segments
        elapsed, work, tokens = now - self._started, self._work, self._tokens
        for name, steps in self._steps.items():
            config = segments[name].config
            trained = steps * config.sequences * config.sequence
            tokens += trained
            # After its last step a segment may still have its evaluation before it.
            work += trained / max(1.0, timed_tokens(config)) * work_of(segments[name])
        running, lost = (
            Counter[str](segments[name].config.kind for name in names) for names in (self._since, self._given_up)
        )
        kinds = {
            kind: Count(total=self._total[kind], done=self._total[kind] - self._remaining[kind],
                        running=running[kind], given_up=lost[kind])
            for kind in KINDS
        }  # fmt: skip
        return Snapshot(
            state=state, runs=self._runs, recorded=self.recorded, given_up=len(self._given_up),
            retried=self._retried, tokens=tokens, tokens_per_second=self._rate(now, tokens),
            done=work / self._all_work if self._all_work else 1.0, seconds=elapsed,
            seconds_left=self._seconds_left(elapsed, work) if state == "running" else None, kinds=kinds,
            running=tuple(self._running(name, now) for name in self._since), troubles=tuple(self._troubles),
        )  # fmt: skip

    def _give_up(self, name: str) -> None:
        children = self._graph.children()
        stack = [name]
        while stack:
            lost = stack.pop()
            if lost in self._left and lost not in self._given_up:
                self._given_up.add(lost)
                self._lost_work += work_of(self._graph.segments[lost])
                stack.extend(children[lost])

    def _running(self, name: str, now: float) -> Running:
        segment = self._graph.segments[name]
        return Running(
            segment=name, label=label(segment), steps=self._steps[name],
            of_steps=segment.config.end - segment.config.start, seconds=now - self._since[name],
        )  # fmt: skip

    def _rate(self, now: float, tokens: int) -> float | None:
        if now - self._samples[-1][0] >= 0.5:
            self._samples.append((now, tokens))
        while len(self._samples) > 2 and now - self._samples[1][0] > RATE_SECONDS:
            self._samples.popleft()
        (start, before), (end, after) = self._samples[0], self._samples[-1]
        # A retry takes tokens back.
        return (after - before) / (end - start) if end - start > 1 and after > before else None

    def _seconds_left(self, elapsed: float, work: float) -> float | None:
        remaining = max(0.0, self._all_work - self._lost_work - work)
        return remaining * elapsed / work if work > 0 and elapsed > 2 else None


def label(segment: Segment) -> str:
    """A segment in the words of its specification: `width 24, seed 0, 2 bits, 0.2 of 1M tokens, classic`."""
    config = segment.config
    model = f"width {config.shape.width}, seed {config.seed}"
    end = f"{format_count(config.end_tokens)} tokens"
    if config.bits is None:
        return f"{model}, {config.kind} to {end}"
    bits = f"{config.bits:g} bits"
    if config.kind == "round":
        return f"{model}, {bits}, rounded at {end}"
    return f"{model}, {bits}, {(config.end - config.start) / config.end:.2g} of {end}, {segment.schedule}"
