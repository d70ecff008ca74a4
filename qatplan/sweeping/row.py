"""The row of a finished run in the schema of `qatplan.runs`, from its configuration and the state at its end."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import torch

from qatplan import runs
from qatplan.sweeping.graph import Segment
from qatplan.training.checkpoint import State
from qatplan.training.corpus.corpus import blocks_per_epoch
from qatplan.training.recipes import described
from qatplan.training.runtime import Runtime
from qatplan.training.segment import Quantization, SegmentConfig
from qatplan.training.trainer import Evaluation, evaluate


def row(
    segment: Segment, state: State, runtime: Runtime, sweep_id: str, watch: Callable[[int], None]
) -> dict[str, Any]:
    """The row of a finished run, which is evaluated for it; `watch` is called meanwhile."""
    config = segment.config
    evaluation = evaluate(config, state, runtime, watch) if state.status == "finished" else None
    if evaluation is not None and not math.isfinite(evaluation.loss):
        evaluation = None
    switch = config.switch
    per_step = config.sequences * config.sequence
    d_qat = config.tokens if config.kind == "qat" else 0
    quantized = config.quantization is not None
    return {
        "run_id": segment.id,
        "parent_id": segment.parent,
        "sweep_id": sweep_id,
        "code_version": config.numerics,
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
        "bits": config.bits,
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
        "qat_decay": segment.qat_decay,
        "batch_tokens": per_step,
        "sequence": config.sequence,
        "scale_learning_rate": switch.scale_learning_rate if switch and quantized else None,
        **_result(evaluation, runtime.corpus.info.bytes_per_token),
        "curve": [{"tokens": tokens, "loss": loss} for tokens, loss in state.curve if math.isfinite(loss)],
        "transitions": _transitions(state),
        "trunk_id": config.trunk_digest(),
        "epochs": config.end * config.sequences / blocks_per_epoch(runtime.corpus.info.train_tokens, config.sequence),
        "seconds": state.seconds if config.tokens else None,
        "tokens_per_second": _rate(config, state),
        "device": config.device,
        "backend": config.backend,
        "precision": config.precision,
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
        "group_size": size if isinstance(size, int) else None,
        "granularity": "channel" if size is None else "tensor" if size == "tensor" else "group",
        "embedding_bits": quantization.embedding_bits,
        "quantizer": quantization.quantizer,
        "activation_bits": activation.bits if activation else None,
        "activation_quantizer": activation.quantizer if activation else None,
        "activation_granularity": activation.granularity if activation else None,
        **_post_training(config, quantization),
    }


def _rate(config: SegmentConfig, state: State) -> float | None:
    """Tokens per second; null for a run of a stack, whose time says nothing about its own speed."""
    alone = config.tokens and state.seconds > 0 and state.stack == 1
    return config.tokens / state.seconds if alone else None


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
