"""A sweep from its specification to its folder of runs, or only to what it would cost."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from qatplan.errors import MissingExtra, SweepIncomplete, UsageError
from qatplan.sweep.engine import Engine, Job, Plan, run
from qatplan.sweep.folder import SweepFolder, check_space
from qatplan.sweep.graph import Graph, Machine, build
from qatplan.sweep.local_engine import LocalEngine, default_workers
from qatplan.sweep.progress import Progress
from qatplan.sweep.specification import Specification
from qatplan.training.corpus import CorpusInfo, prepare
from qatplan.training.segment import SegmentConfig

if TYPE_CHECKING:
    from rich.console import Console

TIMED_STEPS = 3


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
    """Wall time on this machine with `workers`, from timing a few eager steps of each size."""
    workers: int
    epochs: float
    """Passes over the corpus by the longest run."""
    by_kind: dict[str, tuple[int, int]]
    """Segments and tokens of trunk pieces, cooldowns, QAT phases and roundings."""

    @property
    def share(self) -> float:
        """Trained tokens over tokens from scratch."""
        return self.tokens / self.tokens_from_scratch


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A sweep that ended with every run recorded."""

    folder: Path
    runs: int
    new_runs: int
    diverged: int
    tokens: int
    seconds: float
    set_aside: list[Path]
    """Damaged row files that were moved aside and made again."""


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
        info, graph = _plan(specification, corpus_folder, machine, {})
        count = workers or default_workers(machine.device)
        work: dict[int, int] = {}
        by_kind: dict[str, tuple[int, int]] = {}
        examples: dict[int, SegmentConfig] = {}
        for segment in graph.segments.values():
            config = segment.config
            work[config.shape.width] = work.get(config.shape.width, 0) + config.tokens
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
        seconds=sum(tokens / rates[width] for width, tokens in work.items()) / count,
        workers=count,
        epochs=longest / info.train_tokens,
        by_kind=by_kind,
    )


def sweep(
    specification: Specification,
    out: Path,
    *,
    device: str,
    workers: int | None,
    console: Console,
    make_engine: Callable[[int | None], Engine] = LocalEngine,
) -> Outcome:
    """Train what is missing of a specification in folder `out`, by the engine that `make_engine` makes of `workers`.

    Raises UsageError before anything is written if the folder belongs to another sweep or the disk is too small;
    SweepIncomplete (evidence: the reasons by segment) if some segments were given up.
    """
    require_training()
    folder = SweepFolder(out)
    folder.belongs_to(specification)
    made = make_engine(workers)
    with folder.lock(), closing(made) as engine:
        folder.belongs_to(specification)
        info, graph = _plan(specification, folder.corpus, engine.machine(device), folder.backends())
        check_space(out, graph)
        folder.claim(specification, {str(s.config.shape.width): s.config.backend for s in graph.segments.values()})
        folder.remove_temporary()
        finished, set_aside = folder.finished_runs(graph)
        for path in set_aside:
            console.print(f"{path} is a damaged row; its run is made again.", highlight=False, markup=False)
        _say_epochs(graph, info, console)
        started = time.monotonic()
        keep = specification.training.keep_models
        plan = Plan(graph, folder, finished, keep)
        engine.start(Job(folder=out, sweep_id=graph.sweep_id, device=graph.device, keep=keep), len(plan.needed))
        with Progress(graph, set(plan.needed), len(finished), console) as progress:
            try:
                failed = run(plan, engine, progress)
            except KeyboardInterrupt:
                engine.close()
                folder.remove_temporary()
                raise SweepIncomplete(
                    f"interrupted with {progress.runs} of {len(graph.runs)} runs recorded; repeat the command to go on."
                ) from None
        if failed:
            first = next(iter(failed.items()))
            raise SweepIncomplete(
                f"{len(failed)} segments were given up (the first, {first[0]}: {first[1]}); repeat the command to try "
                "them again.",
                evidence=failed,
            )
        return Outcome(
            folder=out,
            runs=len(graph.runs),
            new_runs=len(graph.runs) - len(finished),
            diverged=_diverged(folder),
            tokens=graph.tokens,
            seconds=time.monotonic() - started,
            set_aside=set_aside,
        )


def _plan(
    specification: Specification, corpus_folder: Path, machine: Machine, backends: dict[str, str]
) -> tuple[CorpusInfo, Graph]:
    info = prepare(specification.corpus, corpus_folder)
    graph = build(specification, info, machine, {int(width): backend for width, backend in backends.items()})
    available = info.validation_tokens
    if specification.training.validation_tokens > available:
        raise UsageError(
            f"training.validation_tokens {specification.training.validation_tokens:g} is more than the {available} "
            "tokens held out."
        )
    return info, graph


def _say_epochs(graph: Graph, info: CorpusInfo, console: Console) -> None:
    longest = max(run.config.end_tokens for run in graph.runs)
    if longest > info.train_tokens:
        console.print(
            f"the longest run makes {longest / info.train_tokens:.1f} passes over the {info.train_tokens} training "
            f"tokens of {info.label}.",
            highlight=False,
            markup=False,
        )


def _diverged(folder: SweepFolder) -> int:
    from qatplan import runs

    statuses: list[str] = runs.read([folder.runs]).column("status").to_pylist()
    return statuses.count(runs.DIVERGED)


def _timed_rates(examples: dict[int, SegmentConfig], corpus_folder: Path) -> dict[int, float]:
    """Tokens per second of each width: one thread, eager, a few steps after one to warm up."""
    from qatplan.training.corpus import open_corpus
    from qatplan.training.runtime import Runtime
    from qatplan.training.trainer import start_state, train

    rates = {}
    for width, example in examples.items():
        runtime = Runtime(open_corpus(corpus_folder), example.device)
        config = replace(example, kind="trunk", start=0, end=1, backend="eager", quantization=None, switch=None)
        state = train(config, start_state(config), runtime)
        started = time.monotonic()
        timed = replace(config, start=1, end=1 + TIMED_STEPS)
        train(timed, state, runtime)
        rates[width] = timed.tokens / (time.monotonic() - started)
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
