"""What a sweep would cost: its graph counted, and a few steps of every size timed."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from qatplan.sweeping.engines.engine import look
from qatplan.sweeping.engines.local import default_workers
from qatplan.sweeping.graph import build, evaluation_tokens, timed_tokens
from qatplan.sweeping.specification import Specification
from qatplan.training.checkpoint import State
from qatplan.training.corpus.corpus import open_corpus, prepare
from qatplan.training.model.cuda_graph import WARM_UP_STEPS
from qatplan.training.runtime import Runtime
from qatplan.training.segment import SegmentConfig
from qatplan.training.trainer import start_state, train

TIMED_STEPS = {"cpu": 3, "cuda": 100}
"""On which the estimate of a sweep's time rests, for each size."""


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


def estimate(specification: Specification, *, device: str, workers: int | None) -> Estimate:
    """The graph of a specification, counted and timed; writes nothing that stays."""
    with _one_thread(), tempfile.TemporaryDirectory() as scratch:
        corpus_folder = Path(scratch)
        machine = look(device)
        info = prepare(specification.corpus, corpus_folder)
        graph = build(specification, info, machine)
        count = workers or default_workers(machine.device)
        work = defaultdict[int, float](float)
        by_kind: dict[str, tuple[int, int]] = {}
        examples: dict[int, SegmentConfig] = {}
        for segment in graph.segments.values():
            config = segment.config
            work[config.shape.width] += timed_tokens(config)
            examples.setdefault(config.shape.width, config)
            number, tokens = by_kind.get(config.kind, (0, 0))
            by_kind[config.kind] = (number + 1, tokens + config.tokens)
        rates = _timed_rates(examples, corpus_folder)
    return Estimate(
        segments=len(graph.segments),
        runs=len(graph.runs),
        tokens=graph.tokens,
        tokens_from_scratch=graph.tokens_from_scratch,
        seconds=sum(effort / rates[width] for width, effort in work.items()) / count,
        evaluation=sum(evaluation_tokens(s.config) for s in graph.segments.values()) / sum(work.values()),
        workers=count,
        epochs=graph.longest / info.train_tokens,
        by_kind=by_kind,
    )


def _timed_rates(examples: dict[int, SegmentConfig], corpus_folder: Path) -> dict[int, float]:
    """Tokens per second of each width: one thread, eager, `TIMED_STEPS` steps after those to warm up."""

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
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
