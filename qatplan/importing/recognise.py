"""Which columns of a foreign table look like our fields, and whether an experiment tracker wrote it.

W&B: the run table downloaded from the browser ("Name","State","Runtime",..., then settings and results by bare name),
and what its documented export script writes (`summary`, `config`, `name`). MLflow: `mlflow.search_runs().to_csv()`
(`run_id`, `status`, `params.x`, `metrics.y`, `tags.z`) and the browser's download ("Run ID", "Source Type", ...).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from qatplan.runs.schema import ALIASES, SCALARS

_WANDB_MARKS = {"Notes", "User", "Tags", "Created", "Runtime", "Sweep", "ID", "Group"}
_PREFIX = re.compile(r"^(?:config|summary|params|metrics|args|summary_metrics)[./]")

FRACTION = "fraction"
"""d_qat / d_total, from which an import works out d_fp and d_qat."""

SYNONYMS: dict[str, tuple[str, ...]] = {
    "run_id": ("run_id", "id", "run"),
    "n_total": ("n_params", "num_params", "params", "parameters", "total_params", "num_parameters", "n_parameters"),
    "n_nonembedding": (
        *("n_nonemb", "n_non_embedding", "non_embedding_parameters", "nonembedding_params", "non_embedding_params"),
        *("num_nonembedding_params", "params_non_embedding"),
    ),
    "n_embedding": ("n_emb", "embedding_params", "embedding_parameters"),
    "d_total": ("tokens", "total_tokens", "train_tokens", "training_tokens", "num_tokens", "d_tokens", "n_tokens"),
    "d_fp": ("fp_tokens", "tokens_fp"),
    "d_qat": ("qat_tokens", "tokens_qat"),
    FRACTION: ("qat_fraction",),
    "bits": ("w_bits", "wbits", "weight_bits", "n_bits", "nbits", "weight_bit_width"),
    "activation_bits": ("a_bits", "abits", "act_bits"),
    "group_size": ("groupsize", "quant_group_size"),
    "quantizer": ("w_quant", "weight_quantizer"),
    "schedule": (),
    "seed": ("random_seed",),
    "loss": (
        *("val_loss", "eval_loss", "valid_loss", "validation_loss", "final_val_loss", "final_loss", "loss_val"),
        *("loss_eval", "val_loss_final", "test_loss"),
    ),
    "learning_rate": ("lr", "max_lr", "peak_lr"),
    "width": ("n_embd", "d_model", "hidden_size", "hidden_dim"),
    "layers": ("n_layer", "n_layers", "num_layers", "num_hidden_layers"),
    "sequence": ("seq_len", "sequence_length", "block_size", "context_length", "max_seq_len"),
    "batch_tokens": ("tokens_per_batch", "tokens_per_step"),
    "corpus": ("dataset",),
    "seconds": ("runtime", "_runtime"),
    "status": ("state",),
    "finished_at": ("end_time",),
}
STEPS = ("step", "_step", "global_step", "iter", "iteration", "steps", "current_step", "checkpoint", "ckpt")
"""Columns that say how far a run had come when the row was written."""
PLANS = ("max_steps", "total_steps", "num_steps", "max_iters", "train_steps", "num_train_steps", "iterations")
"""Columns that say how far a run was to go."""
RUN_NAMES = ("run_id", "id", "run", "run_name", "name", "experiment", "exp_name")
"""Columns whose value names a run."""


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """What a table's columns say about its origin."""

    origin: str
    """wandb, mlflow, or table for anything else."""
    used: dict[str, str]
    """Field -> column taken by its name."""
    proposed: dict[str, str]
    """Field -> column that looks right, for a person to confirm with --map."""
    rivals: dict[str, tuple[str, ...]]
    """Field -> several columns that look equally right, so that none is taken."""


def normalised(column: str) -> str:
    """A column's name without a tracker's prefix and punctuation: `params.eval/Loss` -> `eval_loss`."""
    return re.sub(r"[^0-9a-z_]+", "_", _PREFIX.sub("", column).strip().lower())


def find(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """The first column that goes by one of these names, those listed first preferred."""
    by_name = {normalised(column): column for column in reversed(columns)}
    return next((by_name[name] for name in names if name in by_name), None)


def recognise(columns: Sequence[str]) -> Recognised:
    """Origin and likely fields of a table with these columns.

    Columns that carry our own field names are always used. Synonyms are used where a tracker is recognised, since its
    column names are settings and results by construction, and only proposed elsewhere.
    """
    origin = _origin(set(columns))
    usable = {FRACTION, *SCALARS} - {"run_id", "status"}
    used = {name: column for column in columns if (name := ALIASES.get(column, column)) in usable}
    likely: dict[str, str] = {}
    rivals: dict[str, tuple[str, ...]] = {}
    by_name: dict[str, list[str]] = {}
    for column in columns:
        by_name.setdefault(normalised(column), []).append(column)
    place = {column: index for index, column in enumerate(columns)}
    for field, synonyms in SYNONYMS.items():
        names = {field, *synonyms, *(alias for alias, name in ALIASES.items() if name == field)}
        found = tuple(sorted((column for name in names for column in by_name.get(name, ())), key=place.__getitem__))
        if field == "run_id":
            found = found[:1] or tuple(column for column in columns if origin == "wandb" and column in ("Name", "name"))
        if field == "loss" and len(found) > 1:
            # Beside a val_loss, a bare `loss` is as a rule the training loss.
            used.pop("loss", None)
        if field not in used and len(found) == 1:
            likely[field] = found[0]
        elif field not in used and found:
            rivals[field] = found
    if origin != "table":
        return Recognised(origin=origin, used={**used, **likely}, proposed={}, rivals=rivals)
    for field in ("run_id", "status"):
        # A table that calls them just so means them so.
        if field in columns:
            used[field] = field
            likely.pop(field, None)
    return Recognised(origin=origin, used=used, proposed=likely, rivals=rivals)


def _origin(columns: set[str]) -> str:
    if {"run_id", "experiment_id", "status"} <= columns or {"Run ID", "Source Type"} <= columns:
        return "mlflow"
    if {"Name", "State"} <= columns and len(_WANDB_MARKS & columns) >= 2:
        return "wandb"
    nested = {column.split(".", 1)[0] for column in columns if "." in column}
    if {"config", "summary"} <= nested and {"name", "id", "Name"} & columns:
        return "wandb"
    return "table"
