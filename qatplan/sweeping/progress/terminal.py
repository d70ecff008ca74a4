"""What a person sees of a running sweep: one live view on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from qatplan.sweeping.engines.engine import Event
from qatplan.sweeping.progress.progress import Watcher
from qatplan.sweeping.progress.state import KINDS, Snapshot, Trouble
from qatplan.units import format_count, format_duration

PLAIN_SECONDS = 20.0
SHOWN_RUNNING = 8
FINISHED = "green"
"""Rich's own colour of a full bar turns to grey on a terminal of sixteen colours."""
SHOWN_TROUBLES = 3


def view_for(console: Console) -> Watcher:
    """The live view if `console` is a terminal, else plain lines."""
    return LiveView(console) if console.is_terminal else PlainLines(console)


class LiveView(Watcher):
    """One picture redrawn in place: totals, segments by kind, what is running, the last failures."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def begin(self, snapshot: Snapshot) -> None:
        self._live.start()
        self.tick(snapshot)

    def event(self, event: Event, snapshot: Snapshot) -> None:
        # The rest is redrawn by the clock: many workers on tiny segments make more events than anybody can read.
        if event.kind == "remark":
            self._live.console.print(event.message, highlight=False, markup=False)

    def tick(self, snapshot: Snapshot) -> None:
        self._live.update(picture(snapshot), refresh=True)

    def end(self, snapshot: Snapshot) -> None:
        self.tick(snapshot)
        self._live.stop()


class PlainLines(Watcher):
    """For logs and pipes: a line every 20 seconds, each failure as it happens, and a line at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = time.monotonic()

    def event(self, event: Event, snapshot: Snapshot) -> None:
        if event.kind in ("retried", "failed"):
            self._print(trouble_line(snapshot.troubles[-1]))
        elif event.kind == "remark":
            self._print(event.message)

    def tick(self, snapshot: Snapshot) -> None:
        if time.monotonic() - self._last > PLAIN_SECONDS:
            self._last = time.monotonic()
            self._print(status_line(snapshot))

    def end(self, snapshot: Snapshot) -> None:
        self._print(f"{snapshot.state}: {status_line(snapshot)}")

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def status_line(snapshot: Snapshot) -> str:
    """One line: runs, trunk pieces and branches done, tokens per second, time left, failures."""
    trunk = snapshot.kinds["trunk"]
    branches = [count for kind, count in snapshot.kinds.items() if kind != "trunk"]
    parts = [
        f"{snapshot.recorded} of {snapshot.runs} runs",
        f"trunk pieces {trunk.done}/{trunk.total}",
        f"branches {sum(c.done for c in branches)}/{sum(c.total for c in branches)}",
        rate(snapshot),
    ]
    if snapshot.state == "running":
        parts.append(f"{duration(snapshot.seconds_left)} left")
    if snapshot.retried:
        parts.append(f"{snapshot.retried} tried again")
    if snapshot.given_up:
        parts.append(f"{snapshot.given_up} given up")
    return ", ".join(parts)


def trouble_line(trouble: Trouble) -> str:
    """One failed attempt as a sentence."""
    verb = "was given up" if trouble.given_up else "is tried again"
    return f"segment {trouble.segment} ({trouble.label}) {verb}: {trouble.message}"


def rate(snapshot: Snapshot) -> str:
    """`83.2K tokens/s`, or a question mark before it is known."""
    return f"{'?' if snapshot.tokens_per_second is None else format_count(snapshot.tokens_per_second)} tokens/s"


def duration(seconds: float | None) -> str:
    """`3m20s`, or a question mark."""
    return "?" if seconds is None else format_duration(seconds)


def picture(snapshot: Snapshot) -> RenderableType:
    """The live view of a snapshot."""
    head = Table.grid(padding=(0, 2))
    ends = f"{duration(snapshot.seconds_left)} left" if snapshot.state == "running" else snapshot.state
    head.add_row(
        Text(f"{snapshot.recorded}/{snapshot.runs} runs", style="bold"),
        ProgressBar(total=1.0, completed=snapshot.done, width=32, finished_style=FINISHED),
        Text(f"{snapshot.done:.0%}"),
        Text(rate(snapshot)),
        Text(f"{format_duration(snapshot.seconds)} so far, {ends}"),
    )
    parts: list[RenderableType] = [head, Text(), _kinds(snapshot)]
    if snapshot.running:
        parts += [Text(), _running(snapshot)]
    for trouble in snapshot.troubles[-SHOWN_TROUBLES:]:
        parts.append(Text(trouble_line(trouble), style="red" if trouble.given_up else "yellow"))
    return Group(*parts)


def _kinds(snapshot: Snapshot) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("segments")
    for name in ("done", "running", "waiting", "given up"):
        table.add_column(name, justify="right")
    for kind, count in snapshot.kinds.items():
        if count.total:
            waiting = count.total - count.done - count.running - count.given_up
            lost = Text(str(count.given_up), style="red" if count.given_up else "")
            table.add_row(KINDS[kind], f"{count.done}/{count.total}", str(count.running), str(waiting), lost)
    return table


def _running(snapshot: Snapshot) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for segment in snapshot.running[:SHOWN_RUNNING]:
        table.add_row(
            Text(segment.label),
            ProgressBar(total=max(1, segment.of_steps), completed=segment.steps, width=16, finished_style=FINISHED),
            Text(f"step {segment.steps}/{segment.of_steps}"),
            Text(format_duration(segment.seconds), style="dim"),
        )
    hidden = len(snapshot.running) - SHOWN_RUNNING
    if hidden > 0:
        table.add_row(Text(f"and {hidden} more", style="dim"))
    return table
