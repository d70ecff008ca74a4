"""What executes a graph: the interface of the engines, and the loop that carries out a plan on one of them.

Correctness lives in no engine: any segment may be executed any number of times, anywhere
(`qatplan.sweeping.engines.worker`). An engine only says where; which segment is next, tried again or given up is the
plan's, the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from qatplan.sweeping.graph import Machine, Segment
from qatplan.sweeping.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a segment: `started`, `progress` (steps), `done`, `retried` or `failed` (message).

    A `remark` (message) changes nothing. Engines also say `lost` (message), an attempt that ended with its machine, and
    `blocked` (message), one whose parent's state is missing or damaged, so that the parent must be executed again
    first; `run` reports both as `retried` or `failed`, and what engines know as `remarks` one by one before the rest.
    """

    kind: str
    segment: Segment
    steps: int = 0
    message: str = ""
    remarks: tuple[str, ...] = ()
    """What people should know although it did no harm, such as a damaged checkpoint that was made again."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every worker of a sweep must know beside its segment."""

    folder: str
    """Its location, as seen from anywhere on this machine."""
    sweep_id: str
    device: str
    """`cpu` or `cuda`."""
    save_seconds: float = 60.0
    """Time between the states saved within a segment."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """A segment to be executed."""

    segment: Segment
    save_end: bool
    """Whether it must leave a checkpoint behind."""


class Engine(Protocol):
    """Where segments are executed. First `machine`, then `start`, then `give` and `listen` in turn, last `close`."""

    def machine(self, device: str) -> Machine:
        """What segments will run on for a given `device`; UsageError if there is no such device."""

    def start(self, job: Job, segments: int) -> None:
        """Get ready to execute that many segments of a job."""

    def has_room(self) -> bool:
        """Whether another segment could start now; always true of an engine that executes none."""

    def fits(self, stack: Sequence[Segment]) -> bool:
        """Whether these segments could start, as one stack, beside those that run; always true of one if none does."""

    def stack_limit(self, segment: Segment) -> int:
        """How many segments like this one are worth training as one stack; 1 if stacks do not pay here."""

    def give(self, stack: Sequence[Order]) -> None:
        """Begin a segment, or several in a stack, each of which is listened to as if it were alone."""

    def listen(self) -> Iterable[Event]:
        """What happened to the segments given: `progress`, or how an attempt ended; waits about a second.

        Progress may be late or missing. `failed` is the end of one attempt, also where its worker process died.
        """

    def close(self) -> None:
        """Stop what still runs and every process that the engine started."""


def look(device: str) -> Machine:
    """What this machine offers for a given `device`; UsageError if it has no such device."""
    from qatplan.training.runtime import can_compile, gpu_bytes, resolve_device

    found = resolve_device(device)
    memory = gpu_bytes() if found == "cuda" else None
    return Machine(device=found, can_compile=can_compile(found), gpu_bytes=memory)


def run(plan: Plan, engine: Engine, report: Callable[[Event], None]) -> dict[str, str]:
    """Carry out a plan on a started engine; returns the segments given up, by id, with the reason of each."""
    while plan.waiting or plan.running:
        while engine.has_room() and (stack := plan.next_stack(engine.fits, engine.stack_limit)):
            engine.give([Order(segment=s, save_end=plan.must_save(s.id)) for s in stack])
            for segment in stack:
                report(Event(kind="started", segment=segment))
        if not plan.running:
            # An engine with nothing to do has room for anything, and what hangs on failures is no longer waiting.
            raise RuntimeError(f"{len(plan.waiting)} segments wait for nothing that is executed: {min(plan.waiting)}.")
        for event in engine.listen():
            for remark in event.remarks:
                report(Event(kind="remark", segment=event.segment, message=remark))
            if event.kind == "done":
                plan.done(event.segment.id)
            elif event.kind in ("failed", "lost", "blocked"):
                again = event.kind == "failed" and plan.set_apart(event.segment.id)
                again = again or plan.fail(event.segment.id, event.message, lost=event.kind == "lost")
                if again and event.kind == "blocked":
                    plan.restore_parent(event.segment.id)
                event = replace(event, kind="retried" if again else "failed")
            report(event)
    return plan.failed
