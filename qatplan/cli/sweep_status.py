"""What `qatplan sweep --status DIR` prints for people."""

from __future__ import annotations

from qatplan.cli.output import table
from qatplan.sweep.progress.state import KINDS, Snapshot
from qatplan.sweep.progress.status_file import Status
from qatplan.sweep.progress.terminal import duration, rate, trouble_line
from qatplan.units import format_duration

ENDED_INCOMPLETE = ("incomplete", "interrupted", "stopped")
"""States of a sweep that nobody is working on and that has runs to make."""

_MEANING = {
    "running": "running",
    "complete": "complete: every run is recorded",
    "incomplete": "incomplete: some segments were given up; repeat the command to try them again",
    "interrupted": "interrupted; repeat the command to go on",
    "stopped": "stopped: its driver is gone; repeat the command to go on",
    "unknown": "unknown: no driver has left a status here",
}


def text_of(status: Status) -> str:
    """The whole status as lines."""
    lines = [f"{status.folder}: {_MEANING[status.state]}", _rows(status)]
    snapshot = status.snapshot
    if snapshot is not None and status.seconds_since is not None:
        lines.append(
            f"driver: process {status.pid} on {status.host}, last sign {format_duration(status.seconds_since)} ago"
        )
        lines += ["", *_work(snapshot, running=status.state == "running")]
    return "\n".join(lines)


def _rows(status: Status) -> str:
    of = "" if status.snapshot is None else f" of {status.snapshot.runs}"
    diverged = "a row cannot be read" if status.diverged is None else f"{status.diverged} diverged"
    return f"{status.rows}{of} runs recorded, {diverged}"


def _work(snapshot: Snapshot, *, running: bool) -> list[str]:
    left = f", {duration(snapshot.seconds_left)} left" if running else ""
    lines = [
        f"this command: {snapshot.done:.0%} of its work, {rate(snapshot)}, {format_duration(snapshot.seconds)} so "
        f"far{left}",
        "",
    ]
    rows = [
        (KINDS[kind], count.total, count.done, count.running, count.given_up)
        for kind, count in snapshot.kinds.items()
        if count.total
    ]
    lines.append(table(["segments", "all", "done", "running", "given up"], rows))
    if snapshot.running:
        shown = [(s.segment, s.label, f"{s.steps}/{s.of_steps}", format_duration(s.seconds)) for s in snapshot.running]
        lines += ["", "running:" if running else "was running:", table(["segment", "what", "step", "since"], shown)]
    if snapshot.troubles:
        lines += ["", "failed attempts:", *(trouble_line(trouble) for trouble in snapshot.troubles)]
    return lines
