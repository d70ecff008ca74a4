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
from qatplan.training.trainer import evaluate

_SEGMENT = {"run_id": "id", "parent_id": "parent", "schedule": "schedule", "cooldown": "cooldown",
            "qat_decay": "qat_decay"}  # fmt: skip
_CONFIG = {"code_version": "numerics", "corpus_digest": "corpus", "d_total": "end_tokens"} | {
    name: name for name in ("bits", "seed", "learning_rate", "sequence", "device", "backend", "precision")
}
_SHAPE = {name: name for name in ("n_total", "n_embedding", "n_nonembedding", "width", "layers")}
_SWITCH = {"qat_learning_rate": "learning_rate"} | {
    name: name for name in ("optimizer_state", "optimizer", "update", "transition_rate", "scale_learning_rate")
}
_QUANTIZATION = {"quantizer": "quantizer", "embedding_bits": "embedding_bits"}
_ACTIVATION = {f"activation_{name}": name for name in ("bits", "quantizer", "granularity")}
"""Columns that are as the segment, or a part of its configuration, has them, by the names they have there."""


def row(
    segment: Segment, state: State, runtime: Runtime, sweep_id: str, watch: Callable[[int], None]
) -> dict[str, Any]:
    """The row of a finished run, which is evaluated for it; `watch` is called meanwhile."""
    config, info = segment.config, runtime.corpus.info
    evaluation = evaluate(config, state, runtime, watch) if state.status == "finished" else None
    if evaluation is not None and not math.isfinite(evaluation.loss):
        evaluation = None
    switch, quantization = config.switch, config.quantization
    per_step = config.sequences * config.sequence
    d_qat = config.tokens if config.kind == "qat" else 0
    found: dict[str, Any] = {
        column: getattr(part, name)
        for part, names in (
            (segment, _SEGMENT), (config, _CONFIG), (config.shape, _SHAPE), (switch, _SWITCH),
            (quantization, _QUANTIZATION), (quantization and quantization.activation, _ACTIVATION),
        )
        if part is not None
        for column, name in names.items()
    }  # fmt: skip
    if quantization is None:
        found["scale_learning_rate"] = None
    else:
        size = quantization.group_size
        found["group_size"] = size if isinstance(size, int) else None
        found["granularity"] = "channel" if size is None else "tensor" if size == "tensor" else "group"
    if config.kind == "round" and quantization is not None:
        found["post_training"] = quantization.post_training
        found["post_training_settings"] = described(quantization.post_training)
    if switch is not None:
        found["rewarmup_tokens"] = switch.rewarmup_steps * per_step
    if evaluation is not None:
        found["loss"], found["loss_se"] = evaluation.loss, evaluation.standard_error
        found["bits_per_byte"] = evaluation.loss / math.log(2) / info.bytes_per_token
    if config.tokens:
        found["seconds"] = state.seconds
        # The time of a run of a stack says nothing about its own speed.
        found["tokens_per_second"] = config.tokens / state.seconds if state.seconds > 0 and state.stack == 1 else None
    return {
        **found,
        "sweep_id": sweep_id,
        "corpus": info.label,
        "d_fp": config.end_tokens - d_qat,
        "d_qat": d_qat,
        "batch_tokens": per_step,
        "status": runs.DIVERGED if evaluation is None else runs.FINISHED,
        "curve": [{"tokens": tokens, "loss": loss} for tokens, loss in state.curve if math.isfinite(loss)],
        "transitions": [{"tokens": t, "rate": rate, "target": target} for t, rate, target in state.transitions] or None,
        "trunk_id": config.trunk_digest(),
        "epochs": config.end * config.sequences / blocks_per_epoch(info.train_tokens, config.sequence),
        "threads": torch.get_num_threads(),
        "torch_version": torch.__version__,
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
