"""A sweep from its specification to its folder of runs."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from qatplan import runs
from qatplan.errors import DataError, MissingExtra, SweepIncomplete
from qatplan.shown import shown
from qatplan.storage.base import Location, absolute
from qatplan.sweeping.engines.engine import Engine, Event, Job, run
from qatplan.sweeping.engines.interrupts import one_interrupt
from qatplan.sweeping.engines.local import LocalEngine
from qatplan.sweeping.folder import SweepFolder, check_space
from qatplan.sweeping.graph import build
from qatplan.sweeping.plan import Plan
from qatplan.sweeping.progress.json_lines import JsonLines
from qatplan.sweeping.progress.progress import Progress, Watcher
from qatplan.sweeping.progress.status_file import StatusFile
from qatplan.sweeping.progress.tensorboard import TensorBoardLog
from qatplan.sweeping.progress.terminal import view_for
from qatplan.sweeping.rebuild import rebuild
from qatplan.sweeping.specification import Specification
from qatplan.sweeping.tokens import prepare_tokens

if TYPE_CHECKING:
    from rich.console import Console

SAVE_SECONDS = 60.0
"""Between two states saved within a segment."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A sweep that ended with every run recorded."""

    folder: Location
    runs: int
    new_runs: int
    diverged: int
    tokens: int
    seconds: float
    set_aside: list[str]
    """A sentence for each damaged file of a run that was moved aside and made again."""


def require_training() -> None:
    """Raise MissingExtra with the command that helps if torch is not installed."""
    if importlib.util.find_spec("torch") is None:
        raise MissingExtra('training needs the train extra: pip install "qatplan[train]".')


def sweep(
    specification: Specification,
    out: Location,
    *,
    device: str,
    workers: int | None,
    console: Console,
    make_engine: Callable[[int | None], Engine] = LocalEngine,
    json_lines: TextIO | None = None,
    tensorboard: Path | None = None,
) -> Outcome:
    """Train what is missing of a specification in folder `out`, local or of an object store.

    The engine is the one that `make_engine` makes of `workers`. `console` shows how it goes; events also go to
    `json_lines`, loss curves to the folder `tensorboard`. Raises UsageError before anything is written if the folder
    belongs to another sweep or the disk is too small; SweepIncomplete (evidence: the reasons by segment) if some
    segments were given up.
    """
    require_training()
    folder = SweepFolder(out)
    folder.belongs_to(specification)
    made = make_engine(workers)

    def notify(message: str) -> None:
        console.print(shown(message), highlight=False, markup=False, soft_wrap=True)

    def watchers(finished: set[str]) -> Iterator[Watcher]:
        yield view_for(console)
        yield StatusFile(folder, notify)
        if json_lines is not None:
            yield JsonLines(json_lines, notify)
        if tensorboard is not None:
            yield TensorBoardLog(tensorboard, folder, finished, notify)

    with one_interrupt(), folder.storage.hold() as still_held:
        try:
            with closing(made) as engine:
                done = _sweep(specification, folder, device, engine, notify, watchers, still_held)
                return replace(done, folder=out)
        finally:
            with suppress(DataError):  # a disk that cannot be changed now is cleared by the next command
                folder.remove_temporary()


def _sweep(
    specification: Specification, folder: SweepFolder, device: str, engine: Engine, notify: Callable[[str], None],
    watchers: Callable[[set[str]], Iterable[Watcher]], still_held: Callable[[], None],
) -> Outcome:  # fmt: skip
    folder.belongs_to(specification)
    folder.remove_temporary()
    machine = engine.machine(device)
    remark = rebuild(specification, folder, machine)
    if remark is not None:
        notify(remark)
    if folder.is_new():
        folder.claim(specification, {}, None)  # before anything else of ours lies there
    info = prepare_tokens(specification.corpus, folder)
    graph = build(specification, info, machine, folder.backends())
    check_space(folder, graph)
    backends = {str(s.config.shape.width): s.config.backend for s in graph.segments.values()}
    folder.claim(specification, backends, info.digest)
    finished, remarks = folder.finished_runs(graph)
    for remark in remarks:
        notify(remark)
    if graph.longest > info.train_tokens:
        notify(
            f"the longest run makes {graph.longest / info.train_tokens:.1f} passes over the {info.train_tokens} "
            f"training tokens of {info.label}."
        )
    started = time.monotonic()
    plan = Plan(graph, folder, finished, keep=specification.training.keep_models)
    place = absolute(folder.location)
    job = Job(folder=place, sweep_id=graph.sweep_id, device=graph.device, save_seconds=SAVE_SECONDS)
    engine.start(job, len(plan.needed))
    with Progress(graph, set(plan.needed), len(finished), list(watchers(finished))) as progress:

        def report(event: Event) -> None:
            still_held()
            progress(replace(event, message=shown(event.message)))

        try:
            failed = run(plan, engine, report)
        except KeyboardInterrupt:
            raise SweepIncomplete(
                f"interrupted with {progress.recorded} of {len(graph.runs)} runs recorded; repeat the command to go on."
            ) from None
    if failed:
        name, reason = next(iter(failed.items()))
        what = f"{len(failed)} segments were given up (the first, {name}: {reason})"
        raise SweepIncomplete(f"{what}; repeat the command to try them again.", evidence=failed)
    if not plan.keep:
        folder.remove_states(graph.segments)
    statuses = folder.merge_runs().table.column("status").to_pylist()
    return Outcome(
        folder=folder.location,
        runs=len(graph.runs),
        new_runs=len(graph.runs) - len(finished),
        diverged=statuses.count(runs.DIVERGED),
        tokens=graph.tokens,
        seconds=time.monotonic() - started,
        set_aside=remarks,
    )
