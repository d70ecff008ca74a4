"""What one worker does with the segments it is given: load the parent, train, save, evaluate, publish the row."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from qatplan import runs
from qatplan.errors import DataError, QatplanError
from qatplan.storage.base import Entry
from qatplan.sweeping.engines.engine import Event, Job, Order
from qatplan.sweeping.engines.environment import give_back_memory
from qatplan.sweeping.folder import SweepFolder
from qatplan.sweeping.row import row
from qatplan.sweeping.tokens import local_tokens
from qatplan.training import checkpoint
from qatplan.training.checkpoint import State
from qatplan.training.corpus.corpus import open_corpus
from qatplan.training.runtime import Runtime
from qatplan.training.stack import train_stack
from qatplan.training.trainer import start_state

Report = Callable[[Event], None]


class LostParent(DataError):
    """The state that a segment starts from cannot be used, so that its parent must be executed again first."""


class Executor:
    """What a worker process keeps from one segment of a job to the next."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._folder = SweepFolder(job.folder)
        self._runtime: Runtime | None = None
        torch.set_num_threads(1)

    def attempt(self, stack: Sequence[Order], report: Report) -> None:
        """Execute one segment, or several as a stack; the last that is reported of each is how its attempt ended."""
        job = self._job
        ended: set[str] = set()

        def note(event: Event) -> None:
            if event.kind != "progress":
                ended.add(event.segment.id)
            report(event)

        try:
            if self._runtime is None:
                corpus = stack[0].segment.config.corpus
                self._runtime = Runtime(open_corpus(local_tokens(self._folder, corpus)), job.device)
            execute(stack, self._folder, self._runtime, job.sweep_id, note, job.save_seconds)
        except Exception as error:
            for order in stack:
                if order.segment.id not in ended:
                    report(Event(segment=order.segment, **_failure(error)))
        finally:
            # The next segment may be small, and its worker is then planned with little memory.
            give_back_memory()


def execute(
    stack: Sequence[Order], folder: SweepFolder, runtime: Runtime, sweep_id: str, report: Report,
    save_seconds: float = 60.0,
) -> None:  # fmt: skip
    """Bring segments, trained as one stack, to their ends and publish what they owe: checkpoints, rows of runs.

    May be called any number of times, also after a crash at any point: each resumes from its own last state. Whatever
    goes wrong with one before or after training is reported and concerns that one; what goes wrong in training is
    raised and concerns all whose end is not reported.
    """
    begins: list[tuple[_Work, State]] = []
    for order in stack:
        work = _Work(order, folder, report)
        with work.reporting():
            end = _saved(folder.checkpoint(order.segment.id), work.remarks)
            state = end or work.begin()
            if end is not None or order.segment.config.kind == "round":
                work.publish(state, runtime, sweep_id)
            else:
                begins.append((work, state))
    works = [work for work, _ in begins]
    ends = train_stack(
        [work.order.segment.config for work in works], [begin for _, begin in begins], runtime,
        watch=lambda number, steps: works[number].progress(steps), save_seconds=save_seconds,
        save=lambda number, middle: checkpoint.save(middle, folder.partial(works[number].order.segment.id)),
    )  # fmt: skip
    for number, end in ends:
        with works[number].reporting():
            works[number].publish(end, runtime, sweep_id)


def _failure(error: Exception) -> dict[str, Any]:
    """What went wrong, as the end of an attempt in one sentence."""
    if isinstance(error, QatplanError):
        return {"kind": "blocked" if isinstance(error, LostParent) else "failed", "message": str(error)}
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(where.filename).name}, line {where.lineno}"
    return {"kind": "failed", "message": f"{type(error).__name__}: {error} ({place})"}


@dataclass(frozen=True)
class _Work:
    """What it takes to bring a segment to its end, beside training."""

    order: Order
    folder: SweepFolder
    report: Report
    remarks: list[str] = field(default_factory=list)
    """A sentence for every checkpoint of the segment's own that was unusable, set aside and made again."""

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """What goes wrong meanwhile is reported as the end of this attempt."""
        try:
            yield
        except Exception as error:
            self.report(Event(segment=self.order.segment, **_failure(error)))

    def progress(self, steps: int) -> None:
        """Report the steps done."""
        self.report(Event(kind="progress", segment=self.order.segment, steps=steps))

    def begin(self) -> State:
        """The segment's own last state, or its parent's end, or the untrained model; LostParent if unusable."""
        segment = self.order.segment
        own = _saved(self.folder.partial(segment.id), self.remarks)
        if own is not None:
            return own
        if segment.parent is None:
            return start_state(segment.config)
        entry, remarks = self.folder.checkpoint(segment.parent), list[str]()
        end = _saved(entry, remarks)
        if end is None:
            raise LostParent(*(remarks or [f"checkpoint {entry} is missing."]))
        return replace(end, ranges={}, range_starts={}, seconds=0.0)

    def publish(self, end: State, runtime: Runtime, sweep_id: str) -> None:
        """Publish the end if anybody needs it, and the row of a run that has none, which evaluates it.

        Then the state within is cleared away, and the attempt is done.
        """
        segment, folder = self.order.segment, self.folder
        state, result = folder.checkpoint(segment.id), folder.row(segment.id)
        if self.order.save_end and not state.exists():
            checkpoint.save(end, state)
        if segment.config.evaluate and not result.exists():
            result.write(runs.encode(runs.table([row(segment, end, runtime, sweep_id, self.progress)])))
        folder.partial(segment.id).remove()
        self.report(Event(kind="done", segment=segment, remarks=tuple(self.remarks)))


def _saved(entry: Entry, remarks: list[str]) -> State | None:
    """A saved state, or None if there is none that can be used; one that is damaged is set aside with a remark."""
    try:
        return checkpoint.load(entry)
    except FileNotFoundError:
        return None
    except DataError as error:
        remarks.append(f"{str(error).rstrip('.')}; it is now {entry.set_aside().name}, and what it held is made again.")
        return None
