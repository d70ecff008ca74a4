"""`qatplan sweep`: train the runs of a specification, or say what they would cost."""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from qatplan.cli import options as opt
from qatplan.cli.output import show
from qatplan.errors import SweepIncomplete, UsageError

if TYPE_CHECKING:
    from qatplan.storage.base import Location
    from qatplan.sweeping.estimate import Estimate
    from qatplan.sweeping.run import Outcome

ENDED_INCOMPLETE = ("incomplete", "interrupted", "stopped")
"""States of a sweep that nobody is working on and that has runs to make."""
_SHARE = "Part of a GPU that a Ray worker takes; default by model size."
_STACKED = "Segments that a worker trains in one stack; default 1 on a CPU, by memory on a GPU."


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise typer.BadParameter(f"'{text}' is not above 0 and at most 1.")
    return value


def sweep(
    specification: Annotated[
        Path | None, typer.Argument(metavar="SPEC.toml", help="The sweep specification; not with --status.")
    ] = None,
    out: Annotated[Any, opt.location("Folder of the sweep; or s3://, gs:// URL.")] = None,
    dry_run: Annotated[bool, opt.flag("--dry-run", "Print segments, tokens and time; train nothing.")] = False,
    status: Annotated[Any, opt.location("Print where the sweep in DIR stands, from anywhere.")] = None,
    engine: Annotated[Literal["local", "ray"], opt.ask("Processes of this machine, or Ray.")] = "local",
    address: Annotated[str | None, opt.ask("Ray cluster, HOST:PORT or auto; default: one here.", "ADDR")] = None,
    gpu_share: Annotated[float | None, opt.ask(_SHARE, "SHARE", parser=_share)] = None,
    workers: opt.Workers = None,
    stacked: Annotated[int | None, opt.ask(_STACKED, min=1)] = None,
    device: opt.TrainOn = "auto",
    json_lines: Annotated[bool, opt.flag("--json-lines", "Print each event as a line of JSON on stdout.")] = False,
    tensorboard: Annotated[Path | None, opt.ask("Also write TensorBoard logs there.", "LOGDIR")] = None,
    as_json: opt.Json = False,
) -> None:
    """Train the runs of a specification; repeat it to go on.

    An interrupted sweep goes on where it was. With --status it only looks: the sweep may be running or over, and the
    command ends with 5 if it ended incomplete.

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
    from qatplan import api

    with _ended_in_order():
        result = api.sweep(
            specification, out=out, dry_run=dry_run, engine=engine, address=address, gpu_share=gpu_share,
            workers=workers, stacked=stacked, device=device, json_lines=sys.stdout if json_lines else None,
            tensorboard=tensorboard,
        )  # fmt: skip
    from qatplan.wording.sweep import estimate_sections, outcome_sections

    if dry_run:
        cost = cast("Estimate", result)
        show(cost.as_dict(), lambda: estimate_sections(cost), as_json)
    elif not json_lines:  # else the last event says it
        outcome = cast("Outcome", result)
        show(outcome, lambda: outcome_sections(outcome), as_json)


def _status(folder: Location, as_json: bool) -> None:
    from qatplan.sweeping.progress.status_file import read
    from qatplan.wording.sweep import status_sections

    found = read(folder)
    show(found, lambda: status_sections(found), as_json)
    if found.state in ENDED_INCOMPLETE:
        raise typer.Exit(5)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Treat SIGTERM, which batch systems send when time is up, as Ctrl-C, and both as a sweep to be gone on with.

    A process of its own has a handler for both already, which does the same (`qatplan.__main__`).
    """
    before = signal.getsignal(signal.SIGTERM)
    if before is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        raise SweepIncomplete("interrupted before any segment began; repeat the command to go on.") from None
    finally:
        signal.signal(signal.SIGTERM, before)
