"""Which rows of a table of runs a law is fitted on, and why the others are not: nothing is dropped silently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qatplan.errors import DataError, UsageError
from qatplan.fitting.tuning import TUNED, Tried, tried
from qatplan.laws.fit_parts import LeftOut
from qatplan.laws.inputs import Floats, Inputs
from qatplan.laws.law import Law
from qatplan.runs.schema import CONTROL_BITS

_NUMERIC = (
    "n_total", "n_nonembedding", "d_total", "d_fp", "d_qat", "bits", "group_size", "activation_bits", "seed", "loss",
    "loss_se", "bits_per_byte", "learning_rate", "qat_learning_rate", "rewarmup_tokens", "cooldown", "qat_decay",
    "batch_tokens", "sequence", "width", "layers", "scale_learning_rate", "transition_rate",
)  # fmt: skip
_WORDS = (
    "run_id", "trunk_id", "status", "schedule", "quantizer", "post_training", "optimizer_state", "corpus_digest",
    "corpus", "precision", "optimizer", "update", "sweep_id",
)  # fmt: skip

_QAT_SCHEDULES = ("classic", None)
_ROUNDED = "post-training"
_NEAREST = ("rtn", None)
# Per law the schedules of quantized rows that it is fitted on unless rows are asked for by an expression.
_DEFAULT_SCHEDULES: Mapping[str, tuple[str | None, ...]] = {"ouyang": (_ROUNDED, None)}
BEATEN = "at the same point another learning rate or tuning did better"
"""Why a run of a worse tuning is left out."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Usable rows: where they lie, what was measured, which belong together."""

    x: Inputs
    y: Floats
    """Measured loss, nats per token."""
    run_id: list[str]
    cluster: NDArray[np.intp]
    """Number of the trunk (or of the run itself) that each row belongs to."""
    clustered: bool
    """True where some rows share a trunk."""
    seed: Floats
    method: list[tuple[Any, ...]]
    """What besides size, tokens, bits and seed distinguishes the run: schedule, quantizer, method of rounding after
    training (None for rounding to nearest), tuned hyperparameters."""
    left_out: tuple[LeftOut, ...]
    bytes_per_token: float | None
    """Of the validation text; None where rows do not say, or not the same."""
    points: tuple[Tried, ...] = ()
    """What was tried at each point; nothing where all tuning is kept."""
    foreign: bool = False
    """True for a table of which no run was made by a sweep of ours."""

    def __len__(self) -> int:
        return len(self.x)

    def take(self, keep: Any) -> Rows:
        """The rows selected by a mask or index array."""
        index = np.arange(len(self))[keep]
        _, cluster = np.unique(self.cluster[index], return_inverse=True)
        return replace(
            self,
            x=self.x.take(index),
            y=self.y[index],
            run_id=[self.run_id[i] for i in index],
            cluster=cluster.astype(np.intp),
            seed=self.seed[index],
            method=[self.method[i] for i in index],
        )


def select(
    table: Any,
    law: str,
    *,
    shape: type[Law],
    expression: str | None = None,
    n: str = "total",
    keep_tuning: bool = False,
    fix: Mapping[str, float] | None = None,
) -> Rows:
    """The rows of a runs table (or a mapping of columns with our field names) that `law` is fitted on.

    Left out, each with its reason: runs that did not finish, rows without the asked count of N, controls of 16 bits
    (a second phase in full precision) unless the law takes them, whatever `expression` says, quantized rows
    of other schedules than the law is about, rows of other post-training methods than rounding to nearest and rows of
    bfloat16 beside float32 (unless `expression` chooses rows), runs whose learning rate or other tuned hyperparameter
    was beaten at the same point (unless `keep_tuning`), and rows outside the law's domain.
    `fix` fixes parameters, which can widen the domain. Raises DataError where nothing is left.
    """
    if n not in ("total", "nonembedding"):
        raise UsageError(f"n is {n!r}; allowed are total and nonembedding")
    number, word = _columns(table, expression)
    # Where a table does not say, the QAT phase decayed over its whole length.
    number["qat_decay"] = np.nan_to_num(number["qat_decay"], nan=1.0)
    left_out: dict[str, LeftOut] = {}
    alive = np.ones(len(number["loss"]), dtype=np.bool_)
    ids = [r if r is not None else f"row {i + 1}" for i, r in enumerate(word["run_id"])]

    def leave(mask: NDArray[np.bool_], reason: str) -> None:
        rows = np.flatnonzero(alive & mask)
        if rows.size:
            left_out[reason] = add_left_out(left_out.get(reason), reason, [ids[i] for i in rows])
            alive[rows] = False

    leave(np.array([s not in (None, "finished") for s in word["status"]], dtype=np.bool_), "the run diverged")
    leave(~(number["loss"] > 0), "no loss")
    size = number["n_total" if n == "total" else "n_nonembedding"]
    leave(~(size > 0), f"no count of {'all' if n == 'total' else 'non-embedding'} parameters")
    if not shape.takes_controls:
        leave(number["bits"] == CONTROL_BITS, f"16 bits: a second phase in full precision; law {law} is not about it")
    if expression is None:
        for mask, reason in _unasked(law, shape, word, ~np.isnan(number["bits"])):
            leave(mask, reason)
    points: tuple[Tried, ...] = ()
    if not keep_tuning:
        key = np.stack([size, *(number[k] for k in ("d_fp", "d_qat", "bits", "group_size", "activation_bits", "seed"))])
        beaten, points = _beaten(key, number, word, alive)
        leave(beaten, BEATEN)
    index = np.flatnonzero(alive)
    x = Inputs.of(n=size[index], **{k: number[k][index] for k in ("d_fp", "d_qat", "bits", "group_size")})
    if index.size:
        law_here = shape.for_inputs(x)
        # A parameter fixed at 0 can widen the law's domain.
        law_here = law_here.replace({k: v for k, v in (fix or {}).items() if k in law_here.params()})
        for reason, outside in by_reason(law_here, x):
            leave(np.isin(np.arange(len(alive)), index[outside]), reason)
    inside = alive[index]
    index = np.flatnonzero(alive)
    if not index.size:
        why = "; ".join(f"{e.rows} rows: {e.reason}" for e in left_out.values()) or "the table is empty"
        raise DataError(f"no row can be used to fit {law} ({why})", evidence=list(left_out.values()))
    # A run without a trunk stands alone; draws depend on the order of these names.
    trunks = [
        f"trunk {t}" if (t := word["trunk_id"][i]) is not None else f"run {ids[i]} {k}"
        for k, i in enumerate(index.tolist())
    ]
    names, cluster = np.unique(np.array(trunks), return_inverse=True)
    method = [
        (word["schedule"][i], word["quantizer"][i], _learned(word, i), *(_plain(number, word, k, i) for k in TUNED))
        for i in index.tolist()
    ]
    return Rows(
        x=x.take(inside),
        y=number["loss"][index],
        run_id=[ids[i] for i in index],
        cluster=cluster.astype(np.intp),
        clustered=len(names) < len(index),
        seed=number["seed"][index],
        method=method,
        left_out=tuple(left_out.values()),
        bytes_per_token=_bytes_per_token(number["loss"][index], number["bits_per_byte"][index]),
        points=points,
        foreign=not isinstance(table, Mapping) and all(sweep is None for sweep in word["sweep_id"]),
    )


def _bytes_per_token(loss: Floats, bits_per_byte: Floats) -> float | None:
    """The number that makes nats per token into bits per byte, where it is one for all rows."""
    each = loss / (np.log(2.0) * bits_per_byte)
    each = each[np.isfinite(each)]
    middle = float(np.median(each)) if each.size else np.nan
    alike = bool(np.all(np.abs(each - middle) <= 1e-3 * middle)) and middle > 0
    return float(f"{middle:.9g}") if alike else None


def by_reason(law: Law, x: Inputs) -> list[tuple[str, NDArray[np.bool_]]]:
    """Why points are outside a law's domain, each reason with its points."""
    reasons = np.array([r or "" for r in law.outside(x)])
    return [(reason, reasons == reason) for reason in sorted(set(reasons.tolist()) - {""})]


def _unasked(
    law: str, shape: type[Law], word: dict[str, list[Any]], quantized: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.bool_], str]]:
    """Rows that a law is fitted on only where an expression asks for them, with the reason."""
    unless = "unless --rows asks for others"
    usual = (*_QAT_SCHEDULES, _ROUNDED) if shape.takes_rounded else _QAT_SCHEDULES
    allowed = _DEFAULT_SCHEDULES.get(law, usual)
    if law == shape.name and not shape.sees_bits:
        yield quantized, f"quantized; law {law} is fitted on full-precision runs {unless}"
    else:
        listed = " and ".join(["full-precision", *filter(None, allowed)])
        for name in sorted({*word["schedule"]} - {*allowed, None}):
            mask = quantized & (np.array(word["schedule"], dtype=object) == name)
            yield mask, f"schedule {name}; law {law} is fitted on {listed} runs {unless}"
    for name in sorted({*word["post_training"]} - {*_NEAREST}):
        mask = np.array(word["post_training"], dtype=object) == name
        yield mask, f"post-training method {name}; law {law} is fitted on rtn {unless}"
    precision = np.array([p or "float32" for p in word["precision"]])
    if {*precision.tolist()} == {"float32", "bfloat16"}:
        yield precision == "bfloat16", f"trained in bfloat16; rows of one precision are fitted, float32, {unless}"


def _learned(word: dict[str, list[Any]], i: int) -> str | None:
    """The method of rounding after training, where it is not rounding to nearest."""
    method: str | None = word["post_training"][i]
    return None if method in _NEAREST else method


def _columns(table: Any, expression: str | None) -> tuple[dict[str, Floats], dict[str, list[Any]]]:
    if isinstance(table, Mapping):
        if expression is not None:
            raise UsageError("a row expression needs a runs table, not a mapping of columns")
        return _from_mapping(table)
    from qatplan import runs

    if expression is not None:
        table = runs.select(table, expression)
    return runs.columns(table, list(_NUMERIC)), {name: table.column(name).to_pylist() for name in _WORDS}


def _from_mapping(table: Mapping[str, Any]) -> tuple[dict[str, Floats], dict[str, list[Any]]]:
    unknown = [k for k in table if k not in _NUMERIC and k not in _WORDS and k != "fraction"]
    if unknown:
        raise UsageError(f"{unknown[0]!r} is no column of a fit; allowed are {', '.join((*_NUMERIC, *_WORDS))}")
    for name in ("n_total", "loss"):
        if name not in table:
            raise UsageError(f"column {name} is missing")
    count = len(table["loss"])
    number = {k: np.asarray(table[k], dtype=np.float64) if k in table else np.full(count, np.nan) for k in _NUMERIC}
    if "fraction" in table:
        share = np.nan_to_num(np.asarray(table["fraction"], dtype=np.float64))
        number["d_qat"] = number["d_total"] * share
        number["d_fp"] = number["d_total"] * (1.0 - share)
    number["d_qat"] = np.where(np.isnan(number["d_qat"]), 0.0, number["d_qat"])
    number["d_fp"] = np.where(np.isnan(number["d_fp"]), number["d_total"] - number["d_qat"], number["d_fp"])
    if any(len(v) != count for v in number.values()):
        raise UsageError("the columns differ in length")
    return number, {k: list(table[k]) if k in table else [None] * count for k in _WORDS}


def _beaten(
    key: Floats, number: dict[str, Floats], word: dict[str, list[Any]], alive: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], tuple[Tried, ...]]:
    """True for runs that another of the same point, seed and method, but other tuning, undercuts; what was tried."""
    best: dict[tuple[Any, ...], tuple[float, tuple[Any, ...]]] = {}
    made: dict[int, tuple[tuple[Any, ...], tuple[Any, ...]]] = {}
    settings: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    for i in np.flatnonzero(alive).tolist():
        values = tuple(map(known, key[:, i]))
        words = (word[name][i] for name in ("schedule", "quantizer", "corpus_digest", "corpus"))
        point = (*values, *words, word["precision"][i] or "float32", _learned(word, i))
        tuning = tuple(_plain(number, word, k, i) for k in TUNED)
        made[i] = point, tuning
        settings.setdefault(point, []).append(tuning)
        if point not in best or number["loss"][i] < best[point][0]:
            best[point] = (float(number["loss"][i]), tuning)
    beaten = np.zeros(len(alive), dtype=np.bool_)
    beaten[[i for i, (point, tuning) in made.items() if best[point][1] != tuning]] = True
    return beaten, tuple(tried(point[0], best[point][1], tunings) for point, tunings in settings.items())


def _plain(number: dict[str, Floats], word: dict[str, list[Any]], name: str, i: int) -> Any:
    return word[name][i] if name in word else known(number[name][i])


def known(value: float) -> float | None:
    """A number, or None for NaN, which equals nothing and so is no key."""
    return None if np.isnan(value) else float(value)


def add_left_out(before: LeftOut | None, reason: str, ids: Sequence[str]) -> LeftOut:
    """The runs `ids` added to those that were left out for the same reason."""
    rows, examples = (0, ()) if before is None else (before.rows, before.examples)
    return LeftOut(reason=reason, rows=rows + len(ids), examples=(*examples, *ids)[:3])
