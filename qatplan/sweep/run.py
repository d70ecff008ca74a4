"""A sweep from its specification to its folder of runs, or only to what it would cost."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from qatplan import runs
from qatplan.errors import (
    DataError,
    MissingExtra,
    SweepIncomplete,
    UsageError,
)
from qatplan.storage.base import Location, absolute
from qatplan.sweep.engines.engine import (
    Engine,
    Event,
    Job,
    run,
)
from qatplan.sweep.engines.interrupts import one_interrupt
from qatplan.sweep.engines.local import LocalEngine, default_workers
from qatplan.sweep.folder import SweepFolder, check_space
from qatplan.sweep.graph import (
    Graph,
    Machine,
    build,
    evaluation_tokens,
    timed_tokens,
)
from qatplan.sweep.plan import Plan
from qatplan.sweep.progress.json_lines import JsonLines
from qatplan.sweep.progress.progress import Progress, Watcher
from qatplan.sweep.progress.status_file import StatusFile
from qatplan.sweep.progress.tensorboard import TensorBoardLog
from qatplan.sweep.progress.terminal import view_for
from qatplan.sweep.specification import Specification
from qatplan.sweep.tokens import prepare_tokens
from qatplan.training.corpus.corpus import CorpusInfo, prepare
from qatplan.training.segment import SegmentConfig

if TYPE_CHECKING:
    from rich.console import Console

    from qatplan.training.checkpoint import State
    from qatplan.training.runtime import Runtime

TIMED_STEPS = {"cpu": 3, "cuda": 100}
"""On which the estimate of a sweep's time rests, for each size."""
SAVE_SECONDS = 60.0
"""Between two states saved within a segment."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a sweep would take."""

    segments: int
    runs: int
    tokens: int
    """Tokens trained, each once."""
    tokens_from_scratch: int
    """Tokens that training every run on its own would take."""
    seconds: float
    """Wall time on this machine with `workers`, from timing a few eager steps of each size, segments one by one."""
    workers: int
    evaluation: float
    """Share of the work that goes into evaluating the runs, not into training them."""
    epochs: float
    """Passes over the corpus by the longest run."""
    by_kind: dict[str, tuple[int, int]]
    """Segments and tokens of trunk pieces, cooldowns, QAT phases and roundings."""

    @property
    def share(self) -> float:
        """Trained tokens over tokens from scratch."""
        return self.tokens / self.tokens_from_scratch

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        by_kind = {kind: {"segments": number, "tokens": tokens} for kind, (number, tokens) in self.by_kind.items()}
        return {**asdict(self), "by_kind": by_kind, "share_of_from_scratch": self.share}


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
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        raise MissingExtra('training needs the train extra: pip install "qatplan[train]".')


def estimate(specification: Specification, *, device: str, workers: int | None) -> Estimate:
    """The graph of a specification, counted and timed; writes nothing that stays."""
    require_training()
    with _one_thread(), tempfile.TemporaryDirectory() as scratch:
        corpus_folder = Path(scratch)
        machine = LocalEngine().machine(device)
        info, graph = planned(specification, lambda: prepare(specification.corpus, corpus_folder), machine, {})
        count = workers or default_workers(machine.device)
        work: dict[int, float] = {}
        by_kind: dict[str, tuple[int, int]] = {}
        examples: dict[int, SegmentConfig] = {}
        for segment in graph.segments.values():
            config = segment.config
            work[config.shape.width] = work.get(config.shape.width, 0.0) + timed_tokens(config)
            examples.setdefault(config.shape.width, config)
            number, tokens = by_kind.get(config.kind, (0, 0))
            by_kind[config.kind] = (number + 1, tokens + config.tokens)
        rates = _timed_rates(examples, corpus_folder)
    longest = max(run.config.end_tokens for run in graph.runs)
    return Estimate(
        segments=len(graph.segments),
        runs=len(graph.runs),
        tokens=graph.tokens,
        tokens_from_scratch=graph.tokens_from_scratch,
        seconds=sum(effort / rates[width] for width, effort in work.items()) / count,
        evaluation=sum(evaluation_tokens(s.config) for s in graph.segments.values()) / sum(work.values()),
        workers=count,
        epochs=longest / info.train_tokens,
        by_kind=by_kind,
    )


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
    with one_interrupt(), folder.storage.hold() as still_held:
        try:
            watching = _Watching(console, json_lines, tensorboard)
            with closing(made) as engine:
                return replace(_sweep(specification, folder, device, engine, watching, still_held), folder=out)
        finally:
            with suppress(DataError):  # a disk that cannot be changed now is cleared by the next command
                folder.storage.remove_temporary()


@dataclass(frozen=True)
class _Watching:
    """Who is told how a sweep goes."""

    console: Console
    json_lines: TextIO | None
    tensorboard: Path | None

    def say(self, message: str) -> None:
        """One line for the person at the terminal."""
        self.console.print(message, highlight=False, markup=False, soft_wrap=True)

    def watchers(self, folder: SweepFolder, finished: set[str]) -> list[Watcher]:
        """All of them; UsageError if TensorBoard's folder cannot be written."""
        found: list[Watcher] = [view_for(self.console), StatusFile(folder, self.say)]
        if self.json_lines is not None:
            found.append(JsonLines(self.json_lines, self.say))
        if self.tensorboard is not None:
            found.append(TensorBoardLog(self.tensorboard, folder, finished, self.say))
        return found


def _sweep(
    specification: Specification, folder: SweepFolder, device: str, engine: Engine, watching: _Watching,
    still_held: Callable[[], None],
) -> Outcome:  # fmt: skip
    folder.belongs_to(specification)
    folder.storage.remove_temporary()
    machine = engine.machine(device)
    info, graph = planned(
        specification, lambda: prepare_tokens(specification.corpus, folder), machine, folder.backends()
    )
    check_space(folder, graph)
    backends = {str(s.config.shape.width): s.config.backend for s in graph.segments.values()}
    folder.claim(specification, backends, info.digest)
    finished, remarks = folder.finished_runs(graph)
    for remark in remarks:
        watching.say(remark)
    _say_epochs(graph, info, watching.say)
    started = time.monotonic()
    keep = specification.training.keep_models
    plan = Plan(graph, folder, finished, keep)
    job = Job(
        folder=absolute(folder.location), sweep_id=graph.sweep_id, device=graph.device, keep=keep,
        save_seconds=SAVE_SECONDS,
    )  # fmt: skip
    engine.start(job, len(plan.needed))
    with Progress(graph, set(plan.needed), len(finished), watching.watchers(folder, finished)) as progress:

        def report(event: Event) -> None:
            still_held()
            progress(event)

        try:
            failed = run(plan, engine, report)
        except KeyboardInterrupt:
            raise SweepIncomplete(
                f"interrupted with {progress.recorded} of {len(graph.runs)} runs recorded; repeat the command to go on."
            ) from None
    if failed:
        first = next(iter(failed.items()))
        raise SweepIncomplete(
            f"{len(failed)} segments were given up (the first, {first[0]}: {first[1]}); repeat the command to try "
            "them again.",
            evidence=failed,
        )
    if not keep:
        folder.remove_states()
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


def planned(
    specification: Specification, tokens: Callable[[], CorpusInfo], machine: Machine, backends: dict[str, str]
) -> tuple[CorpusInfo, Graph]:
    """The corpus and the graph of a specification on a machine; `backends` are those of a sweep already begun."""
    info = tokens()
    graph = build(specification, info, machine, {int(width): backend for width, backend in backends.items()})
    available = info.validation_tokens
    if specification.training.validation_tokens > available:
        raise UsageError(
            f"training.validation_tokens {specification.training.validation_tokens:g} is more than the {available} "
            "tokens held out."
        )
    return info, graph


def _say_epochs(graph: Graph, info: CorpusInfo, say: Callable[[str], None]) -> None:
    longest = max(run.config.end_tokens for run in graph.runs)
    if longest > info.train_tokens:
        say(
            f"the longest run makes {longest / info.train_tokens:.1f} passes over the {info.train_tokens} training "
            f"tokens of {info.label}."
        )


def _timed_rates(examples: dict[int, SegmentConfig], corpus_folder: Path) -> dict[int, float]:
    """Tokens per second of each width: one thread, eager, `TIMED_STEPS` steps after those to warm up."""
    from qatplan.training.corpus.corpus import open_corpus
    from qatplan.training.model.cuda_graph import WARM_UP_STEPS
    from qatplan.training.runtime import Runtime
    from qatplan.training.trainer import start_state, train

    def seconds(config: SegmentConfig, state: State, runtime: Runtime) -> float:
        started = time.monotonic()
        train(config, state, runtime)
        return time.monotonic() - started

    rates = {}
    for width, example in examples.items():
        runtime = Runtime(open_corpus(corpus_folder), example.device)
        config = replace(example, kind="trunk", start=0, end=1, backend="eager", quantization=None, switch=None)
        state = train(config, start_state(config), runtime)
        before = 0.0
        timed = replace(config, start=1, end=1 + TIMED_STEPS[example.device])
        if example.device == "cuda":
            # A segment's first steps are many times as slow as the rest, and those of the first segment slower still.
            first = replace(config, start=1, end=2 + WARM_UP_STEPS)
            before = min(seconds(first, state, runtime) for _ in range(3))
            timed = replace(timed, end=timed.end + WARM_UP_STEPS + 1)
        spent = seconds(timed, state, runtime)
        # The timed steps are at least half of it, however other work disturbed the two.
        steps = TIMED_STEPS[example.device] * config.sequences * config.sequence
        rates[width] = steps / max(spent - before, spent / 2)
    return rates


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
