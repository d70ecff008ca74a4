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
from qatplan.storage import Entry
from qatplan.sweep.engine import Attempt, Job
from qatplan.sweep.folder import SweepFolder
from qatplan.sweep.graph import Segment
from qatplan.sweep.tokens import local_tokens
from qatplan.training import checkpoint
from qatplan.training.checkpoint import State
from qatplan.training.corpus import blocks_per_epoch, open_corpus
from qatplan.training.recipes import described
from qatplan.training.runtime import Runtime
from qatplan.training.segment import NUMERICS, Quantization, SegmentConfig
from qatplan.training.trainer import Evaluation, evaluate, start_state, train


class LostParent(DataError):
    """The state that a segment starts from cannot be used, so that its parent must be executed again first."""


class Executor:
    """What a worker process keeps from one segment of a job to the next."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._folder = SweepFolder(job.folder)
        self._runtime: Runtime | None = None
        torch.set_num_threads(1)

    def attempt(self, segment: Segment, has_children: bool, watch: Callable[[int], None]) -> Attempt:
        """`execute` a segment; what went wrong is one sentence."""
        job = self._job
        try:
            if self._runtime is None:
                self._runtime = Runtime(open_corpus(local_tokens(self._folder, segment.config.corpus)), job.device)
            remarks = execute(
                segment, folder=self._folder, runtime=self._runtime, sweep_id=job.sweep_id, has_children=has_children,
                keep=job.keep, watch=watch, save_seconds=job.save_seconds,
            )  # fmt: skip
        except LostParent as error:
            return Attempt(kind="blocked", message=str(error))
        except QatplanError as error:
            return Attempt(kind="failed", message=str(error))
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            message = f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"
            return Attempt(kind="failed", message=message)
        return Attempt(kind="done", remarks=tuple(remarks))


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
) -> list[str]:
    """Bring a segment to its end and publish what it owes: a checkpoint for its children, a row if it is a run.

    May be called any number of times, also after a crash at any point: it resumes from the segment's own last state.
    Returns a sentence for every checkpoint of the segment's own that was unusable, set aside and made again. Raises
    LostParent if it is the parent's end that is unusable.
    """
    target, partial = folder.checkpoint(segment.id), folder.partial(segment.id)
    remarks: list[str] = []
    state = _saved(target, remarks)
    if state is None:
        begin = _saved(partial, remarks) or _parent_end(segment, folder)
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
        folder.row(segment.id).write(runs.encode(runs.table([row(segment, state, runtime, sweep_id, watch)])))
    partial.remove()
    return remarks


def _saved(entry: Entry, remarks: list[str]) -> State | None:
    """A saved state, or None if there is none that can be used; one that is damaged is set aside with a remark."""
    try:
        return checkpoint.load(entry)
    except FileNotFoundError:
        return None
    except DataError as error:
        remarks.append(f"{str(error).rstrip('.')}; it is now {entry.set_aside().name}, and what it held is made again.")
        return None


def _parent_end(segment: Segment, folder: SweepFolder) -> State:
    """The state that a segment starts from: its parent's end, or the untrained model."""
    if segment.parent is None:
        return start_state(segment.config)
    remarks: list[str] = []
    state = _saved(folder.checkpoint(segment.parent), remarks)
    if state is None:
        raise LostParent(*(remarks or [f"checkpoint {folder.checkpoint(segment.parent)} is missing."]))
    return replace(state, ranges={}, range_starts={}, seconds=0.0)


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
