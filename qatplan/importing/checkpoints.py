"""Rows from the middle of a run among those from the end of one: a loss law is about ends.

A row is known for a checkpoint by a count of steps, iterations, updates, epochs or tokens seen that has not come to the
total beside it, or by another row of the same run that goes on. Two rows are of one run if they have one name and one
configuration; rows without a name only if they are many and evenly spaced, for budgets lie apart by factors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qatplan.importing.conversion import numbers
from qatplan.importing.recognise import RUN_NAMES, find, normalised
from qatplan.importing.row import Objection, Row, settings

_UNITS = {
    "step": re.compile(r"step|(?:^|_)(?:ckpt|checkpoint)(?:$|_)"),
    "iter": re.compile(r"iter(?!al)"),
    "update": re.compile(r"update"),
    "tokens": re.compile(
        r"tokens?_?(?:seen|consumed|processed|so_far|trained)|(?:seen|consumed|processed|elapsed|current)_?tokens?"
        r"|(?:max|total|target|planned)_?(?:train_?)?tokens?|tokens?_?(?:total|target|planned)"
    ),
    "epoch": re.compile(r"epoch"),
}  # fmt: skip
_NO_PROGRESS = re.compile(
    r"warm|decay|size|(?:^|_)per(?:_|$)|interval|every|freq|accum|cooldown|anneal|time|second|rate|loss|ppl|perplex|acc"
    r"|micro|inner|save|log_|schedule|stepwise|updated|name|(?:^|_)(?:at|lr|ms)(?:_|$)"
)
_TOTAL = re.compile(
    r"max|total|target|planned|plan(?:$|_)|budget|expected|num_train|(?:^|_)train_(?:steps|iters|updates)"
)
_PLAIN_TOTAL = re.compile(r"^(?:n_|num_)(?:steps|iters|iterations|updates|epochs)$|^iterations$|^epochs$")
_BATCH = re.compile(r"batch|(?:^|_)g?l?o?b?a?l?_?bsz?(?:$|_)")
_TOKENS = ("d_total", "d_fp", "d_qat", "epochs")
_TRAIL = 3
"""Rows of an unmapped name that grow in tokens alone, from which they are checkpoints and not two budgets."""
_NAMELESS_TRAIL = 4
"""The same of rows without any name, evenly spaced."""


@dataclass(frozen=True, kw_only=True)
class _Progress:
    """A column that says how far a run had come."""

    column: str
    total: str | None
    """The column that says how far it was to go."""


def intermediate_checkpoints(
    rows: Sequence[Row], columns: Sequence[str], read: Mapping[str, Sequence[str]]
) -> Iterator[Objection]:
    """Rows that had not come to their planned end, and rows of a run that goes on in another row.

    `read` says which columns each mapped field was made from.
    """
    progress = _progress_columns(columns, rows)
    ended: list[Row] = []
    short: dict[int, str] = {}
    for each in progress:
        for row, counts in _short(rows, each, read):
            short.setdefault(row.number, counts)
    for row in rows:
        why = short.get(row.number)
        if why is None:
            ended.append(row)
        else:
            yield Objection(row.number, "loss", f"an intermediate checkpoint: {why}", "checkpoint")
    yield from _overtaken(ended, columns, progress)


def _short(rows: Sequence[Row], progress: _Progress, read: Mapping[str, Sequence[str]]) -> Iterator[tuple[Row, str]]:
    """Rows that lie before the planned end of their run, with the counts that say so."""
    # W&B's own _step counts calls of its log function, not training steps.
    if progress.column == "_step":
        return
    totals = _numbers(rows, progress.total) if progress.total else [None] * len(rows)
    seen = _UNITS["tokens"].search(normalised(progress.column)) and progress.column not in read.get("d_total", ())
    mapped = numbers([row.values.get("d_total") for row in rows]) if seen else [None] * len(rows)
    for row, done, total, tokens in zip(rows, _numbers(rows, progress.column), totals, mapped, strict=True):
        if done is not None and total is not None and done < 0.99 * total:
            yield row, f"{progress.column} is {done:g} of {progress.total} {total:g}"
        elif done is not None and total is None and tokens is not None and done < 0.99 * tokens:
            yield row, f"{progress.column} is {done:g} of d_total {tokens:g}"


def _overtaken(rows: Sequence[Row], columns: Sequence[str], progress: Sequence[_Progress]) -> Iterator[Objection]:
    """Rows of a run of which another row is further on."""
    steps = next((p.column for p in progress if len(set(_numbers(rows, p.column))) > 1), None)
    name_column = find(columns, RUN_NAMES)
    if name_column is not None and len(rows) > 1 and len({str(row.cells.get(name_column)) for row in rows}) == 1:
        # One name for all that differs in size and tokens is that of the study.
        name_column = None if len({row.values.get("n_total") for row in rows}) > 1 else name_column
    batches = [[str(row.cells.get(c)) for row in rows] for c in columns if _BATCH.search(normalised(c))]
    batch_of = list(zip(*batches, strict=True)) if batches else [()] * len(rows)
    steps_done = _numbers(rows, steps) if steps else [None] * len(rows)
    tokens = numbers([row.values.get("d_total") for row in rows])
    groups: dict[Any, list[tuple[float, Row]]] = {}
    for i, setting in enumerate(settings(rows, without=_TOKENS)):
        row, done = rows[i], steps_done[i]
        name = row.values.get("run_id")
        label = row.cells.get(name_column) if name_column else None
        kind = "mapped" if name is not None else "nameless" if label in (None, "") else "named"
        if done is None and kind != "nameless":
            done = tokens[i]
        if done is not None:
            key = (kind, str(name if name is not None else label), setting, batch_of[i])
            groups.setdefault(key, []).append((done, row))
    for (kind, *_), members in groups.items():
        if kind == "nameless" and not _is_trail(members):
            continue
        # Equal names and growing tokens: with a count of steps two rows tell, without one they may be two budgets.
        if kind == "named" and steps is None and len({done for done, _ in members}) < _TRAIL:
            continue
        furthest, last = max(members, key=lambda member: member[0])
        for done, row in members:
            if done < furthest:
                on = f"the same run goes on to {furthest:g} in row {last.number}"
                reason = f"an intermediate checkpoint: {steps or 'd_total'} is {done:g}, and {on}"
                yield Objection(row.number, "loss", reason, "checkpoint")


def _is_trail(members: Sequence[tuple[float, Row]]) -> bool:
    """Whether rows without a name are one run's: their tokens grow with their steps, evenly, and in many rows.

    Rows of equal tokens are runs of other batches.
    """
    pairs = sorted({(done, row.values.get("d_total") or 0) for done, row in members})
    if len(pairs) < _NAMELESS_TRAIL or len({tokens for _, tokens in pairs}) < len(pairs):
        return False
    gaps = np.diff(np.array([done for done, _ in pairs]))
    return bool(gaps.max() <= 1.5 * np.median(gaps))


def _progress_columns(columns: Sequence[str], rows: Sequence[Row]) -> list[_Progress]:
    """The columns that say how far a run had come, each with the total beside it, in the order of their units."""
    parted = {column: _parted(column) for column in columns}
    parted = {column: name for column, name in parted.items() if not _NO_PROGRESS.search(name)}
    found = []
    for unit in _UNITS.values():
        of_unit = [c for c, name in parted.items() if unit.search(name)]
        totals = [c for c in of_unit if _TOTAL.search(parted[c])]
        done = [c for c in of_unit if c not in totals]
        if not totals and len(done) > 1:
            totals = [c for c in done if _PLAIN_TOTAL.search(parted[c])][:1]
            done = [c for c in done if c not in totals]
        elif not totals:
            # Alone, `iterations` says how long a run was.
            done = [c for c in done if not _PLAIN_TOTAL.search(parted[c])]
        found += [_Progress(column=c, total=_nearest(c, totals)) for c in done]
    return [p for p in found if any(value is not None for value in _numbers(rows, p.column))]


def _nearest(column: str, totals: Sequence[str]) -> str | None:
    """The total that shares most of the column's beginning: config.steps beside config.max_steps."""
    return max(totals, key=lambda c: len(_shared(column, c)), default=None)


def _shared(left: str, right: str) -> str:
    return next((left[:i] for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), left)


def _parted(column: str) -> str:
    """A column's name in parts, trainerGlobalStep as trainer_global_step."""
    return normalised(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column))


def _numbers(rows: Sequence[Row], column: str) -> list[float | None]:
    return numbers([row.cells.get(column) for row in rows])
