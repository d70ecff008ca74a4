"""A table of runs as the figures need it: plain records, grouped into the curves of loss against QAT fraction."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from qatplan.errors import DataError
from qatplan.runs.schema import DIVERGED

if TYPE_CHECKING:
    import pyarrow as pa

POST_TRAINING = "post-training"
SAME_TOKENS = 0.02
"""Budgets that differ by less, relatively, are one."""

_Key = TypeVar("_Key")
_VARIANT = ("quantizer", "group_size", "embedding_bits", "activation_bits")
_SETTING = ("learning_rate", "qat_learning_rate", "rewarmup_tokens", "optimizer_state")
_COLUMNS = (
    "n_total", "n_nonembedding", "d_total", "d_qat", "bits", "schedule", "seed", "loss", "loss_se", "status",
    "post_training", "curve", *_VARIANT, *_SETTING,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Run:
    """One row of a runs table. Missing numbers are None; losses are in nats per token."""

    n: float
    """Parameters, in the convention the figure was asked for."""
    d_total: float
    fraction: float
    """D_qat / D_total."""
    bits: float | None
    """None is full precision."""
    schedule: str
    seed: float | None
    variant: tuple[str, ...]
    """What makes it another method, not another setting: quantizer, group size, embedding and activation bits."""
    setting: tuple[str, ...]
    """Hyperparameters one would tune: learning rates, re-warmup, optimizer state."""
    loss: float | None
    """None when diverged."""
    loss_se: float | None
    post_training: str | None = None
    """How a rounded model found its codes."""
    curve: tuple[tuple[float, float], ...] = ()
    """(tokens, loss) along the run."""


def runs_of(table: pa.Table, convention: str = "total") -> tuple[Run, ...]:
    """The records of a runs table, in its order; `convention` is "total" or "nonembedding".

    Raises DataError when a row lacks the count of parameters that the convention asks for, or there is no row.
    """
    if table.num_rows == 0:
        raise DataError("the table holds no runs, so there is nothing to draw.")
    size = "n_nonembedding" if convention == "nonembedding" else "n_total"
    records = []
    for i, row in enumerate(table.select(list(_COLUMNS)).to_pylist()):
        if row[size] is None:
            raise DataError(f"Row {i + 1}: {size} is missing; figures counted that way need it in every row.")
        same = {name: row[name] for name in ("bits", "loss_se", "post_training")}
        records.append(
            Run(
                n=float(row[size]), d_total=float(row["d_total"]), fraction=row["d_qat"] / row["d_total"], **same,
                schedule=row["schedule"] or "", seed=None if row["seed"] is None else float(row["seed"]),
                variant=_tags(row, _VARIANT), setting=_tags(row, _SETTING),
                loss=None if row["status"] == DIVERGED else row["loss"],
                curve=tuple((float(p["tokens"]), float(p["loss"])) for p in row["curve"] or ()),
            )
        )  # fmt: skip
    return tuple(records)


def group(runs: Iterable[Run], key: Callable[[Run], _Key]) -> dict[_Key, list[Run]]:
    """Runs by key, keys in order of first appearance."""
    groups: dict[_Key, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return groups


def about(wanted: float | None, value: float) -> bool:
    """Whether a value is the one asked for: people write 96K for 96,480. None asks for nothing."""
    return wanted is None or abs(math.log(value / wanted)) < 0.02


def same_budgets(runs: Sequence[Run]) -> list[Run]:
    """The runs with D_total of nearly equal budgets of one size set equal, to their median.

    Tokens are rounded to whole steps of both phases, so D_total of one curve varies by up to a percent or so.
    """
    budget: dict[tuple[float, float], float] = {}
    for n in {r.n for r in runs}:
        rest = sorted({r.d_total for r in runs if r.n == n})
        while rest:
            part = [d for d in rest if d <= rest[0] * (1 + SAME_TOKENS)]
            budget |= {(n, d): part[len(part) // 2] for d in part}
            rest = rest[len(part) :]
    return [dataclasses.replace(r, d_total=budget[r.n, r.d_total]) for r in runs]


def best(runs: Sequence[Run]) -> Run:
    """The run of lowest loss; a diverged one only where all are."""
    return min(runs, key=lambda run: math.inf if run.loss is None else run.loss)


def control_loss(runs: Iterable[Run], n: float, d_total: float, seed: float | None) -> float | None:
    """Loss of the full-precision run of the same size and tokens; of the same seed if there is one, else the mean."""
    same = [r for r in runs if r.bits is None and r.n == n and r.d_total == d_total and r.loss is not None]
    chosen = [r for r in same if r.seed == seed] or same
    losses = [r.loss for r in chosen if r.loss is not None]
    return sum(losses) / len(losses) if losses else None


def _tags(row: Mapping[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    known = [(name, row[name]) for name in names if row[name] is not None]
    return tuple(f"{name} {value if isinstance(value, str) else format(value, 'g')}" for name, value in known)
