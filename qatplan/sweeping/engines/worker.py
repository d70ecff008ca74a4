"""What one worker does with one segment: load the parent, train, save, evaluate, publish the row."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from qatplan import runs
from qatplan.errors import DataError, QatplanError
from qatplan.storage.base import Entry
from qatplan.sweeping.engines.engine import Attempt, Job, Order
from qatplan.sweeping.engines.environment import give_back_memory
from qatplan.sweeping.folder import SweepFolder
from qatplan.sweeping.graph import Segment
from qatplan.sweeping.row import row
from qatplan.sweeping.tokens import local_tokens
from qatplan.training import checkpoint
from qatplan.training.checkpoint import State
from qatplan.training.corpus.corpus import open_corpus
from qatplan.training.runtime import Runtime
from qatplan.training.stack import train_stack
from qatplan.training.trainer import start_state, train

Report = Callable[[str, Attempt | int], None]
"""Takes the id of a segment and the steps done in it, or how its attempt ended."""


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

        def note(name: str, message: Attempt | int) -> None:
            if isinstance(message, Attempt):
                ended.add(name)
            report(name, message)

        try:
            if self._runtime is None:
                corpus = stack[0].segment.config.corpus
                self._runtime = Runtime(open_corpus(local_tokens(self._folder, corpus)), job.device)
            works = [
                Work(order=order, folder=self._folder, runtime=self._runtime, sweep_id=job.sweep_id, keep=job.keep)
                for order in stack
            ]
            if len(works) == 1:
                name = stack[0].segment.id
                remarks = execute(works[0], lambda steps: note(name, steps), job.save_seconds)
                note(name, Attempt(kind="done", remarks=tuple(remarks)))
            else:
                execute_stack(works, note, job.save_seconds)
        except Exception as error:
            for order in stack:
                if order.segment.id not in ended:
                    report(order.segment.id, _failure(error))
        finally:
            # The next segment may be small, and its worker is then planned with little memory.
            give_back_memory()


def _failure(error: Exception) -> Attempt:
    """What went wrong, in one sentence."""
    if isinstance(error, QatplanError):
        return Attempt(kind="blocked" if isinstance(error, LostParent) else "failed", message=str(error))
    where = traceback.extract_tb(error.__traceback__)[-1]
    message = f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"
    return Attempt(kind="failed", message=message)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What it takes to bring a segment to its end, beside training."""

    order: Order
    folder: SweepFolder
    runtime: Runtime
    sweep_id: str
    keep: bool
    """Whether its end is saved in any case."""
    remarks: list[str] = field(default_factory=list)
    """A sentence for every checkpoint of the segment's own that was unusable, set aside and made again."""

    @property
    def segment(self) -> Segment:
        return self.order.segment

    def end(self) -> State | None:
        """The segment's end, if it was saved."""
        return _saved(self.folder.checkpoint(self.segment.id), self.remarks)

    def begin(self) -> State:
        """The segment's own last state, or its parent's end; LostParent if that is unusable."""
        partial = _saved(self.folder.partial(self.segment.id), self.remarks)
        return partial or _parent_end(self.segment, self.folder)

    def save(self, middle: State) -> None:
        """Publish a state within the segment."""
        checkpoint.save(middle, self.folder.partial(self.segment.id))

    def save_end(self, end: State) -> None:
        """Publish the segment's end if anybody needs it and it is not there."""
        entry = self.folder.checkpoint(self.segment.id)
        if (self.order.has_children or self.keep) and not entry.exists():
            checkpoint.save(end, entry)

    def publish(self, end: State, watch: Callable[[int], None]) -> None:
        """Publish the row of a run that has none, which evaluates it, and clear away the state within."""
        segment, entry = self.segment, self.folder.row(self.segment.id)
        if segment.config.evaluate and not entry.exists():
            entry.write(runs.encode(runs.table([row(segment, end, self.runtime, self.sweep_id, watch)])))
        self.folder.partial(segment.id).remove()


def execute(work: Work, watch: Callable[[int], None], save_seconds: float = 60.0) -> list[str]:
    """Bring a segment to its end and publish what it owes: a checkpoint for its children, a row if it is a run.

    May be called any number of times, also after a crash at any point: it resumes from the segment's own last state.
    Returns the work's remarks. Raises LostParent if it is the parent's end that is unusable.
    """
    config, end = work.segment.config, work.end()
    if end is None:
        end = work.begin()
        if config.kind != "round":
            end = train(config, end, work.runtime, watch=watch, save=work.save, save_seconds=save_seconds)
        work.save_end(end)
    work.publish(end, watch)
    return work.remarks


def execute_stack(works: Sequence[Work], report: Report, save_seconds: float = 60.0) -> None:
    """The same for segments that are trained as one stack, each reported as it ends.

    Whatever goes wrong with one before or after training concerns that one; what goes wrong in training is raised and
    concerns all that have not ended.
    """
    going: list[Work] = []
    begins: list[State] = []

    def publish(work: Work, end: State) -> None:
        name = work.segment.id
        try:
            work.save_end(end)
            work.publish(end, lambda steps: report(name, steps))
        except Exception as error:
            report(name, _failure(error))
        else:
            report(name, Attempt(kind="done", remarks=tuple(work.remarks)))

    for work in works:
        try:
            end = work.end()
            begin = work.begin() if end is None else None
        except Exception as error:
            report(work.segment.id, _failure(error))
            continue
        if end is not None:
            publish(work, end)
        elif begin is not None:
            going.append(work)
            begins.append(begin)
    ends = train_stack(
        [work.segment.config for work in going], begins, works[0].runtime, save_seconds=save_seconds,
        watch=lambda number, steps: report(going[number].segment.id, steps),
        save=lambda number, middle: going[number].save(middle),
    )  # fmt: skip
    for number, end in ends:
        publish(going[number], end)


def _saved(entry: Entry, remarks: list[str]) -> State | None:
    """A saved state, or None if there is none that can be used; one that is damaged is set aside with a remark."""
    try:
        return checkpoint.load(entry)
    except FileNotFoundError:
        return None
    except DataError as error:
        remarks.append(f"{str(error).rstrip('.')}; it is now {entry.set_aside().name}, and what it held is made again.")
        return None


def _parent_end(segment: Segment, folder: SweepFolder) -> State:
    """The state that a segment starts from: its parent's end, or the untrained model."""
    if segment.parent is None:
        return start_state(segment.config)
    remarks: list[str] = []
    state = _saved(folder.checkpoint(segment.parent), remarks)
    if state is None:
        raise LostParent(*(remarks or [f"checkpoint {folder.checkpoint(segment.parent)} is missing."]))
    return replace(state, ranges={}, range_starts={}, seconds=0.0)
