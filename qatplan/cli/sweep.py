"""`qatplan sweep`: train the runs of a specification, or say what they would cost."""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qatplan.cli.options import Json, location_parser, parser
from qatplan.cli.output import emit, table
from qatplan.errors import SweepIncomplete, UsageError
from qatplan.units import format_count, format_duration

if TYPE_CHECKING:
    from rich.console import Console

    from qatplan.storage.base import Location
    from qatplan.sweep.engines.engine import Engine as SweepEngine
    from qatplan.sweep.progress.state import Snapshot
    from qatplan.sweep.progress.status_file import Status
    from qatplan.sweep.run import Estimate

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


class Device(StrEnum):
    """Where to train."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Engine(StrEnum):
    """What runs the workers."""

    local = "local"
    ray = "ray"


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise typer.BadParameter(f"'{text}' is not above 0 and at most 1.")
    return value


DeviceOption = Annotated[Device, typer.Option("--device", help="Where to train; auto takes a GPU if there is one.")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Segments trained at once; default one a core.")]


def sweep(
    specification: Annotated[
        Path | None, typer.Argument(metavar="SPEC.toml", help="The sweep specification; not with --status.")
    ] = None,
    out: Annotated[
        Any,
        typer.Option("--out", parser=location_parser, metavar="DIR", help="Folder of the sweep; or s3://, gs:// URL."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print segments, tokens and time; train nothing.")] = False,
    status: Annotated[
        Any,
        typer.Option(
            "--status",
            parser=location_parser,
            metavar="DIR",
            help="Print where the sweep in DIR stands, from anywhere.",
        ),
    ] = None,
    engine: Annotated[
        Engine, typer.Option("--engine", help="What runs the workers: this machine's processes, or Ray.")
    ] = Engine.local,
    address: Annotated[
        str | None,
        typer.Option(
            "--address", metavar="ADDR", help="Ray cluster to join, HOST:PORT or auto; default: one on this machine."
        ),
    ] = None,
    gpu_share: Annotated[
        float | None,
        typer.Option(
            "--gpu-share",
            parser=parser(_share, "SHARE"),
            metavar="SHARE",
            help="Part of a GPU that a Ray worker takes; default by model size.",
        ),
    ] = None,
    workers: Workers = None,
    stack: Annotated[
        int | None,
        typer.Option(
            "--stack",
            min=1,
            help="Segments that a worker trains in one stack; default 1 on a CPU, by memory on a GPU.",
        ),
    ] = None,
    device: DeviceOption = Device.auto,
    json_lines: Annotated[
        bool, typer.Option("--json-lines", help="Print each event as a JSON object on its own line of stdout.")
    ] = False,
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", metavar="LOGDIR", help="Also write TensorBoard logs there.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train the runs of a specification; repeat the command to continue after an interruption.

    With --status it only looks: the sweep may be running or over, and the command ends with 5 if it ended incomplete.

    Example: qatplan sweep sweep.toml --out sweep --dry-run
    """
    if json_lines and (as_json or dry_run or status is not None):
        raise UsageError("--json-lines goes with neither --json, --dry-run nor --status.")
    if status is not None:
        if specification is not None or out is not None or dry_run or tensorboard is not None:
            raise UsageError("--status DIR stands alone, or with --json.")
        _status(status, as_json)
        return
    if specification is None:
        raise UsageError("SPEC.toml is missing: name a specification, or a sweep's folder with --status.")

    from qatplan.storage.base import join
    from qatplan.sweep import run
    from qatplan.sweep import specification as specifications

    plan = specifications.read(specification)
    if dry_run:
        cost = run.estimate(plan, device=device.value, workers=workers)
        emit(_plain(cost), _describe_cost(cost), as_json)
        return
    if out is None:
        raise UsageError("--out is missing: name the folder of the sweep, or use --dry-run.")
    make_engine = _engine(engine, address, gpu_share, stack)
    with _ended_in_order():
        outcome = run.sweep(
            plan, out, device=device.value, workers=workers, console=console(), make_engine=make_engine,
            json_lines=sys.stdout if json_lines else None, tensorboard=tensorboard,
        )  # fmt: skip
    if json_lines:
        return  # the last event says it
    text = (
        f"{outcome.runs} runs in {join(str(outcome.folder), 'runs')} "
        f"({outcome.new_runs} new, {outcome.diverged} diverged), "
        f"{format_count(outcome.tokens)} tokens in the graph, {format_duration(outcome.seconds)}."
    )
    emit(outcome, text, as_json)


def _status(folder: Location, as_json: bool) -> None:
    from qatplan.sweep.progress.status_file import read

    found = read(folder)
    emit(found, _describe_status(found), as_json)
    if found.state in ENDED_INCOMPLETE:
        raise typer.Exit(5)


def _engine(
    name: Engine, address: str | None, gpu_share: float | None, stack: int | None
) -> Callable[[int | None], SweepEngine]:
    """What makes the engine of a number of workers."""
    if name is Engine.ray:
        from qatplan.sweep.engines.ray import RayEngine

        return partial(RayEngine, address=address, gpu_share=gpu_share, stack=stack)
    from qatplan.sweep.engines.local import LocalEngine

    for option, value in (("--address", address), ("--gpu-share", gpu_share)):
        if value is not None:
            raise UsageError(f"{option} belongs to --engine ray.")
    return partial(LocalEngine, stack=stack)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Treat SIGTERM, which batch systems send when time is up, as Ctrl-C, and both as a sweep to be gone on with."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        raise SweepIncomplete("interrupted before any segment began; repeat the command to go on.") from None
    finally:
        signal.signal(signal.SIGTERM, before)


def console() -> Console:
    """Where progress goes: stderr."""
    from rich.console import Console

    return Console(stderr=True)


def _plain(cost: Estimate) -> dict[str, object]:
    by_kind = {kind: {"segments": n, "tokens": tokens} for kind, (n, tokens) in cost.by_kind.items()}
    return {**asdict(cost), "by_kind": by_kind, "share_of_from_scratch": cost.share}


def _describe_cost(cost: Estimate) -> str:
    from qatplan.sweep.progress.state import KINDS

    rows = [(KINDS[kind], number, format_count(tokens)) for kind, (number, tokens) in cost.by_kind.items()]
    rows.append(("all", cost.segments, format_count(cost.tokens)))
    return (
        f"{cost.runs} runs from {cost.segments} segments\n\n{table(['segments', 'number', 'tokens'], rows)}\n\n"
        f"Training each run from scratch would take {format_count(cost.tokens_from_scratch)} tokens; "
        f"sharing trunks and cooldowns takes {cost.share:.1%} of that.\n"
        f"The longest run makes {cost.epochs:.2g} passes over the corpus. Evaluating the runs takes "
        f"{cost.evaluation:.1%} of the work (training.validation_tokens).\n"
        f"Estimated time: {format_duration(cost.seconds)} with {cost.workers} workers (a few eager steps of each size "
        "timed here; compiled sizes run faster)."
    )


def _describe_status(status: Status) -> str:
    snapshot = status.snapshot
    of = "" if snapshot is None else f" of {snapshot.runs}"
    diverged = "a row cannot be read" if status.diverged is None else f"{status.diverged} diverged"
    lines = [f"{status.folder}: {_MEANING[status.state]}", f"{status.rows}{of} runs recorded, {diverged}"]
    if snapshot is not None and status.seconds_since is not None:
        since = format_duration(status.seconds_since)
        lines.append(f"driver: process {status.pid} on {status.host}, last sign {since} ago")
        lines += ["", *_describe_work(snapshot, running=status.state == "running")]
    return "\n".join(lines)


def _describe_work(snapshot: Snapshot, *, running: bool) -> list[str]:
    from qatplan.sweep.progress.state import KINDS
    from qatplan.sweep.progress.terminal import duration, rate, trouble_line

    left = f", {duration(snapshot.seconds_left)} left" if running else ""
    so_far = f"{rate(snapshot)}, {format_duration(snapshot.seconds)} so far{left}"
    kinds = [
        (KINDS[kind], count.total, count.done, count.running, count.given_up)
        for kind, count in snapshot.kinds.items()
        if count.total
    ]
    lines = [f"this command: {snapshot.done:.0%} of its work, {so_far}", ""]
    lines.append(table(["segments", "all", "done", "running", "given up"], kinds))
    if snapshot.running:
        shown = [(s.segment, s.label, f"{s.steps}/{s.of_steps}", format_duration(s.seconds)) for s in snapshot.running]
        lines += ["", "running:" if running else "was running:", table(["segment", "what", "step", "since"], shown)]
    if snapshot.troubles:
        lines += ["", "failed attempts:", *(trouble_line(trouble) for trouble in snapshot.troubles)]
    return lines
