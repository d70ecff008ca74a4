"""`qatplan export`: a trained, quantized run as a file of integers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from qatplan.cli import options as opt
from qatplan.cli.output import emit
from qatplan.units import format_bytes


def export(
    specification: Annotated[Path, typer.Argument(metavar="SPEC.toml", help="The sweep's specification.")],
    sweep: Annotated[Any, opt.location("Folder of the sweep.")],
    run: Annotated[str, opt.ask("The run, by its id or the beginning of it.", "ID")],
    out: Annotated[Path, opt.ask("Where to write the model.", "FILE.safetensors")],
    device: opt.TrainOn = opt.TrainingDevice.auto,
    force: opt.Force = False,
    as_json: opt.Json = False,
) -> None:
    """Write a quantized run as packed integer codes.

    Scales stand beside them; loss and size are checked. The sweep must have kept its models (training.keep_models =
    true).

    Example: qatplan export sweep.toml --sweep sweep --run 3f2a --out model.safetensors
    """
    from qatplan import api

    done, predicted = api.export(specification, sweep=sweep, run=run, out=out, device=device.value, force=force)
    planned = "" if predicted is None else f"; planning predicts {predicted:,} for {done.form}"
    text = (
        f"Run {done.run_id} is in {done.path}: {format_bytes(done.bytes)} ({done.bytes:,} bytes{planned}).\n"
        f"Its loss is {done.loss:.6f} nats per token, that of the fake-quantized model {done.recorded_loss:.6f}."
    )
    emit({**vars(done), "shape": vars(done.shape), "predicted_bytes": predicted}, text, as_json)
