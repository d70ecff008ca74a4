"""What one worker does with one segment: load the parent, train, save, evaluate, publish the row."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from qatplan import runs
from qatplan.errors import DataError, QatplanError
from qatplan.sweep.engine import Job
from qatplan.sweep.folder import SweepFolder
from qatplan.sweep.graph import Segment
from qatplan.training import checkpoint
from qatplan.training.checkpoint import State
from qatplan.training.corpus import blocks_per_epoch, open_corpus
from qatplan.training.recipes import described
from qatplan.training.runtime import Runtime
from qatplan.training.segment import NUMERICS, Quantization, SegmentConfig
from qatplan.training.trainer import Evaluation, evaluate, start_state, train


class Executor:
    """What a worker process keeps from one segment of a job to the next."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._folder = SweepFolder(job.folder)
        self._runtime: Runtime | None = None
        torch.set_num_threads(1)

    def attempt(self, segment: Segment, has_children: bool, watch: Callable[[int], None]) -> str | None:
        """`execute` a segment; None if it is done, else what went wrong in one sentence."""
        job = self._job
        try:
            if self._runtime is None:
                self._runtime = Runtime(open_corpus(self._folder.corpus), job.device)
            execute(
                segment, folder=self._folder, runtime=self._runtime, sweep_id=job.sweep_id, has_children=has_children,
                keep=job.keep, watch=watch, save_seconds=job.save_seconds,
            )  # fmt: skip
        except QatplanError as error:
            return str(error)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            return f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"
        return None


def execute(
    segment: Segment,
    *,
    folder: SweepFolder,
    runtime: Runtime,
    sweep_id: str,
    has_children: bool,
    keep: bool,
    watch: Callable[[int], None],
    save_seconds: float = 60.0,
) -> None:
    """Bring a segment to its end and publish what it owes: a checkpoint for its children, a row if it is a run.

    May be called any number of times, also after a crash at any point: it resumes from the segment's own last state.
    """
    target, partial = folder.checkpoint(segment.id), folder.partial(segment.id)
    state = _own_end(segment, folder)
    if state is None:
        begin = _begin(segment, folder)
        if segment.config.kind == "round":
            state = begin
        else:
            state = train(
                segment.config, begin, runtime, watch=watch, save_seconds=save_seconds,
                save=lambda middle: checkpoint.save(middle, partial),
            )  # fmt: skip
        if has_children or keep:
            checkpoint.save(state, target)
    if segment.config.evaluate and not folder.row(segment.id).exists():
        runs.write(runs.table([row(segment, state, runtime, sweep_id, watch)]), folder.row(segment.id))
    checkpoint.remove(partial)


def _own_end(segment: Segment, folder: SweepFolder) -> State | None:
    if not folder.has_checkpoint(segment.id):
        return None
    try:
        return checkpoint.load(folder.checkpoint(segment.id))
    except DataError:
        checkpoint.remove(folder.checkpoint(segment.id))
        return None


def _begin(segment: Segment, folder: SweepFolder) -> State:
    """The segment's own saved middle if there is one, else its parent's end, else the untrained model."""
    try:
        return checkpoint.load(folder.partial(segment.id))
    except DataError:
        checkpoint.remove(folder.partial(segment.id))
    if segment.parent is None:
        return start_state(segment.config)
    path = folder.checkpoint(segment.parent)
    try:
        return replace(checkpoint.load(path), ranges={}, range_starts={}, seconds=0.0)
    except DataError:
        # Without its marker it counts as missing, so that the next command makes it again.
        checkpoint.remove(path)
        raise


def row(
    segment: Segment, state: State, runtime: Runtime, sweep_id: str, watch: Callable[[int], None]
) -> dict[str, Any]:
    """The row of a finished run, in the schema of `qatplan.runs`."""
    config = segment.config
    evaluation = evaluate(config, state, runtime, watch) if state.status == "finished" else None
    if evaluation is not None and not math.isfinite(evaluation.loss):
        evaluation = None
    switch = config.switch
    per_step = config.sequences * config.sequence
    d_qat = config.tokens if config.kind == "qat" else 0
    return {
        "run_id": segment.id,
        "parent_id": segment.parent,
        "sweep_id": sweep_id,
        "code_version": NUMERICS,
        "corpus": runtime.corpus.info.label,
        "corpus_digest": config.corpus,
        "n_total": config.shape.n_total,
        "n_embedding": config.shape.n_embedding,
        "n_nonembedding": config.shape.n_nonembedding,
        "width": config.shape.width,
        "layers": config.shape.layers,
        "d_total": config.end_tokens,
        "d_fp": config.end_tokens - d_qat,
        "d_qat": d_qat,
        **_quantization(config),
        "schedule": segment.schedule,
        "seed": config.seed,
        "learning_rate": config.learning_rate,
        "qat_learning_rate": switch.learning_rate if switch else None,
        "optimizer_state": switch.optimizer_state if switch else None,
        "optimizer": switch.optimizer if switch else None,
        "update": switch.update if switch else None,
        "transition_rate": switch.transition_rate if switch else None,
        "rewarmup_tokens": switch.rewarmup_steps * per_step if switch else None,
        "cooldown": segment.cooldown,
        "batch_tokens": per_step,
        "sequence": config.sequence,
        "scale_learning_rate": switch.scale_learning_rate if switch else None,
        **_result(evaluation, runtime.corpus.info.bytes_per_token),
        "curve": [{"tokens": tokens, "loss": loss} for tokens, loss in state.curve if math.isfinite(loss)],
        "transitions": _transitions(state),
        "trunk_id": config.trunk_digest(),
        "epochs": config.end * config.sequences / blocks_per_epoch(runtime.corpus.info.train_tokens, config.sequence),
        "seconds": state.seconds if config.tokens else None,
        "tokens_per_second": config.tokens / state.seconds if config.tokens and state.seconds > 0 else None,
        "device": config.device,
        "backend": config.backend,
        "threads": torch.get_num_threads(),
        "torch_version": torch.__version__,
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _quantization(config: SegmentConfig) -> dict[str, Any]:
    quantization = config.quantization
    if quantization is None:
        return {}
    size, activation = quantization.group_size, quantization.activation
    return {
        "bits": quantization.bits,
        "group_size": size if isinstance(size, int) else None,
        "granularity": "channel" if size is None else "tensor" if size == "tensor" else "group",
        "embedding_bits": quantization.embedding_bits,
        "quantizer": quantization.quantizer,
        "activation_bits": activation.bits if activation else None,
        "activation_quantizer": activation.quantizer if activation else None,
        "activation_granularity": activation.granularity if activation else None,
        **_post_training(config, quantization),
    }


def _transitions(state: State) -> list[dict[str, float]] | None:
    points = [{"tokens": tokens, "rate": rate, "target": target} for tokens, rate, target in state.transitions]
    return points or None


def _post_training(config: SegmentConfig, quantization: Quantization) -> dict[str, Any]:
    if config.kind != "round":
        return {}
    method = quantization.post_training
    return {"post_training": method, "post_training_settings": described(method)}


def _result(evaluation: Evaluation | None, bytes_per_token: float) -> dict[str, Any]:
    if evaluation is None:
        return {"loss": None, "loss_se": None, "bits_per_byte": None, "status": runs.DIVERGED}
    return {
        "loss": evaluation.loss,
        "loss_se": evaluation.standard_error,
        "bits_per_byte": evaluation.loss / math.log(2) / bytes_per_token,
        "status": runs.FINISHED,
    }
