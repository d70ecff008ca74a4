"""What a sweep costs, where it stands and how it ended, in sections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qatplan.storage.base import join
from qatplan.sweeping.progress.state import KINDS, Snapshot
from qatplan.sweeping.progress.status_file import Status
from qatplan.sweeping.progress.terminal import duration, rate, trouble_line
from qatplan.units import format_count, format_duration
from qatplan.wording.sections import Section, Table, bullets, section

if TYPE_CHECKING:  # it brings torch
    from qatplan.sweeping.estimate import Estimate
    from qatplan.sweeping.run import Outcome

_MEANING = {
    "running": "running",
    "complete": "complete: every run is recorded",
    "incomplete": "incomplete: some segments were given up; repeat the command to try them again",
    "interrupted": "interrupted; repeat the command to go on",
    "stopped": "stopped: its driver is gone; repeat the command to go on",
    "unknown": "unknown: no driver has left a status here",
}


def estimate_sections(cost: Estimate) -> list[Section]:
    """What a sweep would take."""
    rows = [(KINDS[kind], str(number), format_count(tokens)) for kind, (number, tokens) in cost.by_kind.items()]
    rows.append(("all", str(cost.segments), format_count(cost.tokens)))
    return [
        section(
            f"{cost.runs} runs from {cost.segments} segments",
            Table(headers=("segments", "number", "tokens"), rows=tuple(rows)),
        ),
        section(
            f"Estimated time: {format_duration(cost.seconds)} with {cost.workers} workers",
            "A few eager steps of each size were timed here; compiled sizes run faster.",
            f"Training each run from scratch would take {format_count(cost.tokens_from_scratch)} tokens; "
            f"sharing trunks and cooldowns takes {cost.share:.1%} of that.",
            f"The longest run makes {cost.epochs:.2g} passes over the corpus. Evaluating the runs takes "
            f"{cost.evaluation:.1%} of the work (training.validation_tokens).",
        ),
    ]


def outcome_sections(outcome: Outcome) -> list[Section]:
    """How a sweep ended with every run recorded."""
    return [
        section(
            f"{outcome.runs} runs in {join(str(outcome.folder), 'runs')} "
            f"({outcome.new_runs} new, {outcome.diverged} diverged)",
            f"{format_count(outcome.tokens)} tokens in the graph, {format_duration(outcome.seconds)}.",
        )
    ]


def status_sections(status: Status) -> list[Section]:
    """Where a sweep stands, seen from outside."""
    snapshot = status.snapshot
    of = "" if snapshot is None else f" of {snapshot.runs}"
    diverged = "a row cannot be read" if status.diverged is None else f"{status.diverged} diverged"
    driver = None
    if status.seconds_since is not None:
        since = format_duration(status.seconds_since)
        driver = f"driver: process {status.pid} on {status.host}, last sign {since} ago"
    title = f"{status.folder}: {_MEANING[status.state]}"
    head = section(title, f"{status.rows}{of} runs recorded, {diverged}", driver)
    return [head] if snapshot is None else [head, *_work(snapshot, running=status.state == "running")]


def _work(snapshot: Snapshot, *, running: bool) -> list[Section]:
    left = f", {duration(snapshot.seconds_left)} left" if running else ""
    kinds = [
        (KINDS[kind], *map(str, (count.total, count.done, count.running, count.given_up)))
        for kind, count in snapshot.kinds.items()
        if count.total
    ]
    shown = [(s.segment, s.label, f"{s.steps}/{s.of_steps}", format_duration(s.seconds)) for s in snapshot.running]
    return [
        section(
            f"This command: {snapshot.done:.0%} of its work",
            f"{rate(snapshot)}, {format_duration(snapshot.seconds)} so far{left}",
            Table(headers=("segments", "all", "done", "running", "given up"), rows=tuple(kinds)),
        ),
        section(
            "Running" if running else "Was running",
            Table(headers=("segment", "what", "step", "since"), rows=tuple(shown), words=(1,)),
        ),
        section("Failed attempts", bullets(*map(trouble_line, snapshot.troubles))),
    ]
