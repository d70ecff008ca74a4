"""One run of a sweep as a file of integer codes, checked against the loss in its row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qatplan.errors import DataError, UsageError
from qatplan.quant import registry
from qatplan.runs import folder as run_folder
from qatplan.storage import atomic
from qatplan.storage.base import Location
from qatplan.sweeping.engines.engine import look
from qatplan.sweeping.folder import SweepFolder
from qatplan.sweeping.graph import Graph, Segment, build
from qatplan.sweeping.specification import Specification
from qatplan.sweeping.tokens import recorded_tokens
from qatplan.training import checkpoint
from qatplan.training.corpus.corpus import open_corpus
from qatplan.training.export import model_file
from qatplan.training.export.exported import exported
from qatplan.training.runtime import Runtime
from qatplan.training.segment import Quantization
from qatplan.training.shape import Shape

TOLERANCE = 1e-4
"""Relative difference of losses that rounding in float32 may make, on another machine than the one that trained."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """What was written, and how it compares with the run."""

    path: Path
    run_id: str
    bytes: int
    """Size of the file."""
    loss: float
    """Of the exported model on the validation set, nats per token."""
    recorded_loss: float
    """Of the fake-quantized model, as the run's row has it."""
    form: str | None
    """Its format as `qatplan memory --format` takes it; None where one range serves a whole tensor."""
    shape: Shape


def export(specification: Specification, out: Location, run: str, target: Path, *, device: str) -> Export:
    """Write run `run` (its id or a beginning of it) of the sweep in `out` as integers to `target`.

    Raises UsageError for a run that is not there, is in full precision or has no checkpoint left; DataError if the
    exported model's loss is not the recorded one.
    """
    folder = SweepFolder(out)
    tokens, info = recorded_tokens(folder)
    folder.belongs_to(specification)
    machine = look(device)
    segment = _chosen(build(specification, info, machine, folder.backends()), run)
    quantization = segment.config.quantization
    if quantization is None:
        raise UsageError(f"run {segment.id} is in full precision and has no integer codes.")
    try:
        state = checkpoint.load(folder.checkpoint(segment.id))
    except FileNotFoundError:
        raise UsageError(
            f"run {segment.id} has left no checkpoint in {folder.location}; a sweep with training.keep_models = true "
            "keeps them."
        ) from None
    recorded = _recorded_loss(folder, segment)
    runtime = Runtime(open_corpus(tokens), segment.config.device)
    content = model_file.encode(exported(segment.config, state, runtime))
    loss = model_file.decode(content, str(target)).evaluate(runtime).loss
    if abs(loss - recorded) > TOLERANCE * recorded:
        raise DataError(
            f"{target} was not written: the model in it would have a loss of {loss:.6f}, but run {segment.id} has one "
            f"of {recorded:.6f}."
        )
    atomic.write_bytes(target, content)
    return Export(
        path=target,
        run_id=segment.id,
        bytes=len(content),
        loss=loss,
        recorded_loss=recorded,
        form=_form(segment.config.kind, quantization),
        shape=segment.config.shape,
    )


def _form(kind: str, quantization: Quantization) -> str | None:
    group = quantization.group_size
    if group == "tensor":
        return None
    parts = [f"int{quantization.bits:g}"]
    if group is not None:
        parts.append(f"g{group}")
    if not registry.entry(quantization.quantizer).symmetric:
        parts.append("z")
    if kind == "round" and quantization.post_training == "importance":
        parts.append("m")
    return ":".join([*parts, f"e{quantization.embedding_bits:g}", "f"])


def _chosen(graph: Graph, run: str) -> Segment:
    found = [segment for segment in graph.runs if segment.id.startswith(run)]
    if len(found) != 1:
        what = "no run of this sweep has" if not found else f"{len(found)} runs of this sweep have"
        raise UsageError(f"--run {run}: {what} an id that begins so; the files in its runs folder are named by them.")
    return found[0]


def _recorded_loss(folder: SweepFolder, segment: Segment) -> float:
    table = run_folder.check(folder.storage).table
    losses = dict(zip(*(table.column(name).to_pylist() for name in ("run_id", "loss")), strict=True))
    loss = losses.get(segment.id)
    if loss is None:
        raise UsageError(f"run {segment.id} has not finished, or diverged; it has no loss to compare with.")
    return float(loss)
