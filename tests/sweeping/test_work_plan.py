"""Which segments are executed, in which order, and what a failure takes with it; no training here."""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.graphs import GRID, graph

from qatplan.sweeping.engines.engine import Engine, Event, Job, Order, run
from qatplan.sweeping.engines.memory import PROCESS_BYTES, RESERVE, Budget, available_bytes, segment_bytes, system_bytes
from qatplan.sweeping.folder import SweepFolder
from qatplan.sweeping.graph import Machine, Segment
from qatplan.sweeping.plan import ATTEMPTS, LOSSES, Plan


@pytest.fixture(scope="module", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """No power fails here: what a plan is told of its checkpoints is all that these tests write."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


def checkpoint(folder: SweepFolder, name: str) -> None:
    folder.checkpoint(name).write(b"state")


def execute(plan: Plan, folder: SweepFolder) -> list[str]:
    """Carry out a plan, two at a time, as the engine does; the ids in the order of their ends."""
    order: list[str] = []
    while True:
        started = [segment for segment in (plan.next(), plan.next()) if segment is not None]
        if not started:
            return order
        for segment in started:
            if segment.parent is not None:
                assert folder.checkpoint(segment.parent).exists(), "a parent's state is there when its child starts"
            if plan.must_save(segment.id):
                checkpoint(folder, segment.id)
            plan.done(segment.id)
            order.append(segment.id)


def test_everything_is_done_once_after_its_parent_and_cleared_away(tmp_path: Path) -> None:
    folder, whole = SweepFolder(tmp_path), graph(GRID)
    order = execute(Plan(whole, folder, set(), keep=False), folder)
    assert sorted(order) == sorted(whole.segments)
    assert not list(tmp_path.rglob("*.pt"))


def test_models_are_kept_when_asked(tmp_path: Path) -> None:
    folder, whole = SweepFolder(tmp_path), graph(GRID)
    execute(Plan(whole, folder, set(), keep=True), folder)
    assert len(list(tmp_path.rglob("*.pt"))) == len(whole.segments)


def test_only_what_missing_runs_depend_on_is_done_again(tmp_path: Path) -> None:
    folder, whole = SweepFolder(tmp_path), graph(GRID)
    runs = whole.runs
    missing = next(run for run in runs if run.schedule == "classic" and run.parent is not None)
    finished = {run.id for run in runs} - {missing.id}
    ancestry = [missing.id]
    while (parent := whole.segments[ancestry[-1]].parent) is not None:
        ancestry.append(parent)
    plan = Plan(whole, folder, finished, keep=False)
    assert plan.needed == set(ancestry)
    checkpoint(folder, ancestry[1])
    assert Plan(whole, folder, finished, keep=False).needed == {missing.id}
    assert Plan(whole, folder, {run.id for run in runs}, keep=False).needed == set()


def test_a_failure_is_tried_again_and_then_takes_its_branches_with_it(tmp_path: Path) -> None:
    folder, whole = SweepFolder(tmp_path), graph(GRID)
    plan = Plan(whole, folder, set(), keep=False)
    first = plan.next()
    assert first is not None
    for attempt in range(1, ATTEMPTS):
        assert plan.fail(first.id, "no luck") is True, attempt
        again = plan.next()
        assert again is not None
        assert again.id == first.id
    assert plan.fail(first.id, "no luck") is False
    lost = {first.id}
    for segment in whole.segments.values():
        if segment.parent in lost:
            lost.add(segment.id)
    assert set(plan.failed) == lost
    assert sorted(execute(plan, folder)) == sorted(set(whole.segments) - lost)


def test_the_longest_path_goes_first(tmp_path: Path) -> None:
    plan = Plan(graph(GRID), SweepFolder(tmp_path), set(), keep=False)
    first = plan.next()
    assert first is not None
    assert first.config.shape.width == 24, "the larger model has the longer way to go"


def test_a_lost_parent_is_made_again_before_its_children(tmp_path: Path) -> None:
    folder, whole = SweepFolder(tmp_path), graph(GRID)
    plan = Plan(whole, folder, set(), keep=False)
    order: list[str] = []
    lost: set[str] = set()
    while (segment := plan.next()) is not None:
        if segment.parent is not None and len(order) % 16 == 15 and segment.id not in lost:
            lost.add(segment.id)
            folder.checkpoint(segment.parent).remove()
            assert plan.fail(segment.id, "its parent is damaged") is True
            plan.restore_parent(segment.id)
            continue
        assert segment.parent is None or folder.checkpoint(segment.parent).exists()
        if plan.must_save(segment.id):
            checkpoint(folder, segment.id)
        plan.done(segment.id)
        order.append(segment.id)
    assert plan.failed == {}
    assert set(order) == set(whole.segments)
    assert len(order) > len(whole.segments), "some were made twice"
    assert len(lost) >= 5
    assert not list(tmp_path.rglob("*.pt"))


def test_lost_ancestors_are_made_again_too(tmp_path: Path) -> None:
    folder, whole = SweepFolder(tmp_path), graph(GRID)
    run = next(run for run in whole.runs if run.schedule == "classic" and run.parent is not None)
    parent = whole.segments[str(run.parent)]
    assert parent.parent is not None
    checkpoint(folder, parent.id)
    finished = {other.id for other in whole.runs} - {run.id}
    plan = Plan(whole, folder, finished, keep=False)
    assert plan.needed == {run.id}
    first = plan.next()
    assert first is not None
    assert plan.fail(first.id, "its parent is damaged")
    folder.checkpoint(parent.id).remove()
    plan.restore_parent(run.id)
    assert execute(plan, folder)[-2:] == [parent.id, run.id]
    assert plan.failed == {}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), finished=st.floats(0, 1), saved=st.floats(0, 1), damaged=st.floats(0, 1))
def test_whatever_lies_there_damaged_every_missing_run_is_made(
    seed: int, finished: float, saved: float, damaged: float
) -> None:
    chance, whole = random.Random(seed), graph({**GRID, "widths": 16, "seeds": 0})
    with tempfile.TemporaryDirectory() as path:
        folder = SweepFolder(Path(path))
        rows = {run.id for run in whole.runs if chance.random() < finished}
        parents = sorted({segment.parent for segment in whole.segments.values() if segment.parent is not None})
        lying = [name for name in parents if chance.random() < saved]
        for name in lying:
            checkpoint(folder, name)
        plan = Plan(whole, folder, rows, keep=False)
        spoilt = {name for name in lying if chance.random() < damaged}
        engine = Scripted(folder, {}, spoilt)
        done: list[str] = []
        failed = run(plan, engine, lambda event: done.append(event.segment.id) if event.kind == "done" else None)
        assert failed == {}
        assert {run.id for run in whole.runs} - rows <= set(done)


def test_what_hangs_on_a_parent_given_up_before_is_given_up_too(tmp_path: Path) -> None:
    folder, whole = SweepFolder(tmp_path), graph(GRID)
    child = next(segment for segment in whole.segments.values() if segment.parent and segment.config.evaluate)
    parent = str(child.parent)
    plan = Plan(whole, folder, set(), keep=False)
    plan.failed[parent] = "no luck"
    plan.restore_parent(child.id)
    assert "no luck" in plan.failed[child.id]
    assert child.id not in plan.waiting


def test_no_more_is_started_than_fits_in_memory() -> None:
    small, *_, large = sorted(graph({**GRID, "widths": [16, 256]}).segments.values(), key=segment_bytes)
    assert segment_bytes(large) > segment_bytes(small) > PROCESS_BYTES
    budget = Budget(int(segment_bytes(large) / (1 - RESERVE)) + 10)
    assert budget.fits([large])
    budget.start(small)
    assert not budget.fits([large])
    budget.end(small, failed=False)
    budget.start(large)
    budget.end(large, failed=True)
    assert budget.fits([large]), "alone it may always try"


def test_a_segment_that_fails_needs_more_room_the_next_time() -> None:
    segment, other = list(graph(GRID).segments.values())[:2]
    budget = Budget(int(2.5 * segment_bytes(segment) / (1 - RESERVE)))
    budget.start(other)
    assert budget.fits([segment])
    budget.start(segment)
    budget.end(segment, failed=True)
    assert not budget.fits([segment])


def test_the_plan_starts_what_fits_first(tmp_path: Path) -> None:
    plan = Plan(graph(GRID), SweepFolder(tmp_path), set(), keep=False)
    found = plan.next(lambda segment: segment.config.shape.width == 16)
    assert found is not None
    assert found.config.shape.width == 16
    assert plan.next(lambda segment: False) is None


def test_memory_of_this_machine_is_known() -> None:
    assert 2**26 < available_bytes() <= system_bytes()


def test_ten_thousand_runs_are_planned_in_five_seconds(tmp_path: Path) -> None:
    grid = {
        **GRID,
        "widths": [16, 24, 32, 48, 64, 80],
        "tokens": ["1M", "2M", "4M", "8M", "16M"],
        "bits": [1, 2, 3, 4, 6],
    }
    grid["fractions"] = [0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
    grid["seeds"] = [0, 1, 2]
    started = time.process_time()
    whole = graph(grid)
    plan = Plan(whole, SweepFolder(tmp_path), set(), keep=False)
    assert plan.next() is not None
    assert time.process_time() - started < 5
    assert len(whole.runs) > 10_000


@final
class Scripted(Engine):
    """An engine that trains nothing: two segments at once; the first attempts of `fates` end as told.

    The states of `spoilt` are set aside by whoever reads them.
    """

    def __init__(
        self, folder: SweepFolder, fates: dict[str, list[str]], spoilt: Iterable[str] = (), stacked: int = 1
    ) -> None:
        self.folder, self.fates, self.stacked = folder, fates, stacked
        self.stacks: list[list[Segment]] = []
        self.spoilt = set(spoilt)
        self.sound = not self.spoilt
        self.running: list[tuple[Segment, bool]] = []
        self.most = 0

    def machine(self, device: str) -> Machine:
        return Machine(device=device, can_compile=False)

    def start(self, job: Job, segments: int) -> None:
        pass

    def has_room(self) -> bool:
        return len(self.running) < 2

    def fits(self, stack: Sequence[Segment]) -> bool:
        return True

    def stack_limit(self, segment: Segment) -> int:
        return self.stacked

    def give(self, stack: Sequence[Order]) -> None:
        self.stacks.append([order.segment for order in stack])
        for order in stack:
            segment = order.segment
            if segment.parent is not None and self.sound:
                assert self.folder.checkpoint(segment.id).exists() or self.folder.checkpoint(segment.parent).exists()
            self.running.append((segment, order.save_end))
        self.most = max(self.most, len(self.running))

    def listen(self) -> Iterable[Event]:
        segment, has_children = self.running.pop(0)
        fates = self.fates.get(segment.id, [])
        fate = fates.pop(0) if fates else "done"
        fate = fate if self.state(segment.id) or segment.parent is None or self.state(segment.parent) else "blocked"
        if fate == "done" and has_children:
            checkpoint(self.folder, segment.id)
        yield Event(kind="progress", segment=segment, steps=1)
        yield Event(kind=fate, segment=segment, message="" if fate == "done" else "no luck")

    def close(self) -> None:
        pass

    def state(self, name: str) -> bool:
        """Whether a segment's end can be read."""
        if name in self.spoilt:
            self.spoilt.discard(name)
            self.folder.checkpoint(name).remove()
        return self.folder.checkpoint(name).exists()


def carry_out(tmp_path: Path, fates: list[str]) -> tuple[dict[str, str], list[str], int]:
    """Run the grid on an engine where the first segment meets `fates`: what was given up, its events, most at once."""
    folder, whole = SweepFolder(tmp_path), graph(GRID)
    first = next(iter(whole.segments))
    engine = Scripted(folder, {first: fates})
    events: list[Event] = []
    failed = run(Plan(whole, folder, set(), keep=False), engine, events.append)
    done = {event.segment.id for event in events if event.kind == "done"}
    assert done | set(failed) == set(whole.segments)
    return failed, [event.kind for event in events if event.segment.id == first], engine.most


def test_an_engine_is_kept_full_and_its_failures_are_tried_again(tmp_path: Path) -> None:
    failed, events, most = carry_out(tmp_path, ["failed"] * (ATTEMPTS - 1))
    assert failed == {}
    assert events == ["started", "progress", "retried"] * (ATTEMPTS - 1) + ["started", "progress", "done"]
    assert most == 2


def test_an_engine_is_not_asked_again_for_what_was_given_up(tmp_path: Path) -> None:
    failed, events, _ = carry_out(tmp_path, ["failed"] * ATTEMPTS)
    assert events[-1] == "failed"
    assert events.count("started") == ATTEMPTS
    assert len(failed) > 1, "with its branches"


def test_a_segment_may_lose_more_machines_than_it_may_fail(tmp_path: Path) -> None:
    failed, events, _ = carry_out(tmp_path, ["lost"] * (LOSSES - 1) + ["failed"] * (ATTEMPTS - 1))
    assert failed == {}
    assert events.count("retried") == LOSSES - 1 + ATTEMPTS - 1
    failed, events, _ = carry_out(tmp_path / "again", ["lost"] * LOSSES)
    assert events[-1] == "failed"


def stacked(tmp_path: Path, fates: dict[str, list[str]]) -> tuple[dict[str, str], list[Event], list[list[Segment]]]:
    """Run the grid with stacks of up to four: what was given up, all events, and what was given together."""
    folder, whole = SweepFolder(tmp_path), graph(GRID)
    engine = Scripted(folder, fates, stacked=4)
    events: list[Event] = []
    failed = run(Plan(whole, folder, set(), keep=False), engine, events.append)
    done = {event.segment.id for event in events if event.kind == "done"}
    assert done | set(failed) == set(whole.segments)
    return failed, events, engine.stacks


def test_what_is_alike_and_ready_is_given_as_one_stack(tmp_path: Path) -> None:
    failed, _, stacks = stacked(tmp_path, {})
    assert failed == {}
    sizes = [len(stack) for stack in stacks]
    assert max(sizes) == 4
    assert len(stacks) < 0.6 * sum(sizes)
    for stack in stacks:
        assert len({segment.config.stack for segment in stack}) == 1
        assert len(stack) == 1 or all(segment.config.kind != "round" for segment in stack)


def test_what_failed_in_a_stack_is_tried_alone_and_that_is_no_attempt_of_its_own(tmp_path: Path) -> None:
    _, _, stacks = stacked(tmp_path / "first", {})
    stack = next(stack for stack in stacks if len(stack) == 4)
    bad = stack[1].id
    # The whole stack goes down with one of it.
    fates = {segment.id: ["failed"] for segment in stack} | {bad: ["failed"] * ATTEMPTS}
    failed, events, stacks = stacked(tmp_path / "second", fates)
    assert failed == {}, "its own failures are one less than it may have"
    assert sum(event.kind == "retried" for event in events) == 4 + ATTEMPTS - 1
    for segment in stack:
        given = [len(group) for group in stacks if segment in group]
        assert given == ([4, *[1] * ATTEMPTS] if segment.id == bad else [4, 1])
    failed, _, _ = stacked(tmp_path / "third", {bad: ["failed"] * (1 + ATTEMPTS)})
    assert bad in failed


def test_a_stack_that_lost_its_machine_or_a_parent_may_be_stacked_again(tmp_path: Path) -> None:
    _, _, stacks = stacked(tmp_path / "first", {})
    stack = next(stack for stack in stacks if len(stack) == 4)
    fates = {segment.id: [fate] for segment, fate in zip(stack, ("lost", "lost", "lost", "blocked"), strict=True)}
    failed, events, stacks = stacked(tmp_path / "second", fates)
    assert failed == {}
    assert sum(event.kind == "retried" for event in events) == 4
    assert max(len(group) for group in stacks[1:] if stack[0] in group) > 1


def test_a_stack_takes_only_what_fits_into_memory(tmp_path: Path) -> None:
    plan = Plan(graph(GRID), SweepFolder(tmp_path), set(), keep=False)
    trunk = plan.next()
    assert trunk is not None
    checkpoint(SweepFolder(tmp_path), trunk.id)
    plan.done(trunk.id)
    budget = Budget(int(2.5 * segment_bytes(trunk) / (1 - RESERVE)))
    stacks = [plan.next_stack(budget.fits, lambda segment: 8) for _ in range(3)]
    assert max(len(stack) for stack in stacks) == 2
    assert plan.next_stack(lambda stack: False, lambda segment: 8) == []
