"""`qatplan sweep`: train the runs of a specification, or say what they would cost."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qatplan.cli.options import Json, location_parser, parser
from qatplan.cli.output import emit

if TYPE_CHECKING:
    from rich.console import Console

    from qatplan.storage.base import Location
    from qatplan.sweep.engines.engine import Engine as SweepEngine
    from qatplan.sweep.run import Estimate


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
    together: Annotated[
        int | None,
        typer.Option(
            "--together",
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
    from qatplan.errors import UsageError

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
    from qatplan.units import format_count, format_duration

    plan = specifications.read(specification)
    if dry_run:
        cost = run.estimate(plan, device=device.value, workers=workers)
        emit({**_plain(cost)}, _describe(cost), as_json)
        return
    if out is None:
        raise UsageError("--out is missing: name the folder of the sweep, or use --dry-run.")
    make_engine = _engine(engine, address, gpu_share, together)
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
    from qatplan.cli.sweep_status import ENDED_INCOMPLETE, text_of
    from qatplan.sweep.progress.status_file import read

    found = read(folder)
    emit(found, text_of(found), as_json)
    if found.state in ENDED_INCOMPLETE:
        raise typer.Exit(5)


def _engine(
    name: Engine, address: str | None, gpu_share: float | None, together: int | None
) -> Callable[[int | None], SweepEngine]:
    """What makes the engine of a number of workers."""
    from functools import partial

    if name is Engine.ray:
        from qatplan.sweep.engines.ray import RayEngine

        return partial(RayEngine, address=address, gpu_share=gpu_share, together=together)
    from qatplan.errors import UsageError
    from qatplan.sweep.engines.local import LocalEngine

    for option, value in (("--address", address), ("--gpu-share", gpu_share)):
        if value is not None:
            raise UsageError(f"{option} belongs to --engine ray.")
    return partial(LocalEngine, together=together)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Treat SIGTERM, which batch systems send when time is up, as Ctrl-C, and both as a sweep to be gone on with."""
    import signal

    from qatplan.errors import SweepIncomplete

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
    from dataclasses import asdict

    by_kind = {kind: {"segments": n, "tokens": tokens} for kind, (n, tokens) in cost.by_kind.items()}
    return {**asdict(cost), "by_kind": by_kind, "share_of_from_scratch": cost.share}


def _describe(cost: Estimate) -> str:
    from qatplan.cli.output import table
    from qatplan.units import format_count, format_duration

    names = {"trunk": "trunk pieces", "cooldown": "cooldowns", "qat": "QAT phases", "round": "roundings"}
    rows = [(names[kind], number, format_count(tokens)) for kind, (number, tokens) in cost.by_kind.items()]
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
