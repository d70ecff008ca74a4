"""What a sweep's snapshot counts, and how a person sees it; events are scripted, the clock is ours, nothing trains."""

from __future__ import annotations

import io
import json
from dataclasses import asdict

import pytest
from rich.console import Console
from support.graphs import GRID, graph

from qatplan.errors import SweepIncomplete
from qatplan.sweeping.engines.engine import Event
from qatplan.sweeping.graph import Segment
from qatplan.sweeping.progress.progress import Progress, Watcher
from qatplan.sweeping.progress.state import ProgressState, Snapshot, label
from qatplan.sweeping.progress.terminal import LiveView, PlainLines, status_line, view_for


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Recorder(Watcher):
    def __init__(self) -> None:
        self.seen: list[tuple[str, Snapshot]] = []

    def begin(self, snapshot: Snapshot) -> None:
        self.seen.append(("begin", snapshot))

    def event(self, event: Event, snapshot: Snapshot) -> None:
        self.seen.append((event.kind, snapshot))

    def tick(self, snapshot: Snapshot) -> None:
        pass

    def end(self, snapshot: Snapshot) -> None:
        self.seen.append(("end", snapshot))


def event(kind: str, segment: Segment, steps: int = 0, message: str = "") -> Event:
    return Event(kind=kind, segment=segment, steps=steps, message=message)


def steps_of(segment: Segment) -> int:
    return segment.config.end - segment.config.start


def test_a_whole_sweep_adds_up_to_its_graph() -> None:
    whole, clock = graph(GRID), Clock()
    progress = ProgressState(whole, set(whole.segments), 0, clock)
    for segment in whole.segments.values():
        progress.take(event("started", segment))
        clock.now += 1
        progress.take(event("progress", segment, steps_of(segment) // 2))
        progress.take(event("done", segment))
    end = progress.snapshot("complete")
    assert (end.tokens, end.recorded, end.runs) == (whole.tokens, len(whole.runs), len(whole.runs))
    assert end.done == pytest.approx(1)
    assert end.running == ()
    assert sum(count.total for count in end.kinds.values()) == len(whole.segments)
    for count in end.kinds.values():
        assert (count.done, count.running, count.given_up) == (count.total, 0, 0)


def test_rate_and_time_left_follow_the_clock() -> None:
    whole, clock = graph(GRID), Clock()
    trunk = next(segment for segment in whole.segments.values() if segment.config.kind == "trunk")
    progress = ProgressState(whole, {trunk.id}, 0, clock)
    assert (progress.snapshot().tokens_per_second, progress.snapshot().seconds_left) == (None, None)
    progress.take(event("started", trunk))
    half = steps_of(trunk) // 2
    clock.now += 10
    progress.take(event("progress", trunk, half))
    snapshot = progress.snapshot()
    per_step = trunk.config.sequences * trunk.config.sequence
    assert snapshot.tokens_per_second == pytest.approx(half * per_step / 10)
    assert snapshot.seconds_left == pytest.approx(10 * (steps_of(trunk) - half) / half)
    assert [(one.steps, one.of_steps, one.seconds) for one in snapshot.running] == [(half, steps_of(trunk), 10)]
    # A stretch in which nothing is trained pulls the rate down; after a minute only that stretch counts.
    clock.now += 10
    assert progress.snapshot().tokens_per_second == pytest.approx(half * per_step / 20)
    for _ in range(70):
        clock.now += 1
        progress.snapshot()
    assert progress.snapshot().tokens_per_second is None


def test_failures_take_back_work_and_take_branches_with_them() -> None:
    whole, clock = graph(GRID), Clock()
    first = next(iter(whole.segments.values()))
    progress = ProgressState(whole, set(whole.segments), 0, clock)
    progress.take(event("started", first))
    progress.take(event("progress", first, 5))
    progress.take(event("retried", first, message="no luck"))
    again = progress.snapshot()
    assert (again.tokens, again.retried, again.given_up, again.running) == (0, 1, 0, ())
    progress.take(event("started", first))
    progress.take(event("failed", first, message="no luck at all"))
    lost = {first.id}
    for segment in whole.segments.values():
        if segment.parent in lost:
            lost.add(segment.id)
    over = progress.snapshot()
    assert over.given_up == len(lost) > 1
    assert sum(count.given_up for count in over.kinds.values()) == len(lost)
    assert [(t.message, t.given_up) for t in over.troubles] == [("no luck", False), ("no luck at all", True)]
    assert f"1 tried again, {len(lost)} given up" in status_line(over)


def test_what_was_there_before_is_counted_as_done() -> None:
    whole, clock = graph(GRID), Clock()
    last = whole.runs[-1]
    progress = ProgressState(whole, {last.id}, len(whole.runs) - 1, clock)
    snapshot = progress.snapshot()
    assert snapshot.recorded == snapshot.runs - 1
    assert sum(count.done for count in snapshot.kinds.values()) == len(whole.segments) - 1


def test_a_segment_made_again_is_counted_in() -> None:
    whole, clock = graph(GRID), Clock()
    child = next(segment for segment in whole.segments.values() if segment.parent is not None)
    assert child.parent is not None
    parent = whole.segments[child.parent]
    progress = ProgressState(whole, {child.id}, 0, clock)
    progress.take(event("started", child))
    progress.take(event("retried", child, message="the end of its parent is damaged"))
    progress.take(event("started", parent))
    assert progress.snapshot().kinds[parent.config.kind].running == 1
    for segment in (parent, child):
        progress.take(event("started", segment))
        progress.take(event("done", segment))
    end = progress.snapshot()
    assert end.done == pytest.approx(1)
    assert sum(count.done for count in end.kinds.values()) == len(whole.segments)


@pytest.mark.parametrize(
    ("raised", "state"),
    [(None, "complete"), (SweepIncomplete("interrupted"), "interrupted"), (KeyboardInterrupt(), "interrupted"),
     (RuntimeError("a bug"), "stopped")],
)  # fmt: skip
def test_watchers_hear_how_it_ended(raised: BaseException | None, state: str) -> None:
    whole, recorder = graph(GRID), Recorder()
    segment = next(iter(whole.segments.values()))

    def engine() -> None:
        with Progress(whole, {segment.id}, 0, [recorder]) as report:
            report(event("started", segment))
            if raised is not None:
                raise raised
            report(event("done", segment))

    if raised is None:
        engine()
    else:
        with pytest.raises(type(raised)):
            engine()
    assert [name for name, _ in recorder.seen][:2] == ["begin", "started"]
    assert recorder.seen[-1][0] == "end"
    assert recorder.seen[-1][1].state == state
    # What a status file and an event carry is plain JSON without NaN.
    json.dumps(asdict(recorder.seen[-1][1]), allow_nan=False)


@pytest.mark.parametrize(("terminal", "kind"), [(True, LiveView), (False, PlainLines)])
def test_a_terminal_gets_one_view_and_a_pipe_gets_lines(terminal: bool, kind: type[Watcher]) -> None:
    whole, stream = graph(GRID), io.StringIO()
    qat = next(segment for segment in whole.segments.values() if segment.config.kind == "qat")
    view = view_for(Console(file=stream, force_terminal=terminal, width=200))
    assert type(view) is kind
    with Progress(whole, set(whole.segments), 0, [view]) as report:
        report(event("started", qat))
        report(event("progress", qat, 3))
        report(event("retried", qat, message="its worker process died"))
        report(event("started", qat))
    shown = stream.getvalue()
    assert f"({label(qat)}) is tried again: its worker process died" in shown
    assert ("\x1b[" in shown) is terminal
    if terminal:
        assert all(words in shown for words in ("0/104 runs", "QAT phases", f"step 0/{steps_of(qat)}"))
    else:
        assert len(shown.splitlines()) == 2
        assert shown.splitlines()[-1].startswith("complete: 0 of 104 runs, trunk pieces 0/40, branches 0/120")
