"""Which segments are executed, in which order, and what a failure takes with it; no training here."""

from __future__ import annotations

from pathlib import Path

from test_graph import GRID, graph

from qatplan.sweep.engine import ATTEMPTS, Plan
from qatplan.sweep.folder import SweepFolder


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
            if plan.has_needed_children(segment.id):
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
    parents = {segment.parent for segment in whole.segments.values()} - {None}
    assert len(list(tmp_path.rglob("*.pt"))) == len(parents)


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
