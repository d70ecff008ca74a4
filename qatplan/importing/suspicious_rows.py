"""Rows of a foreign table that can be read but look wrong.

Each check looks at all rows together and returns the rows it objects to, with one sentence for each: full precision
that is not, intermediate checkpoints among final results, runs given twice, and units that do not agree.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qatplan.importing.checkpoints import intermediate_checkpoints
from qatplan.importing.format_columns import false_full_precision
from qatplan.importing.recognise import normalised
from qatplan.importing.row import Objection, Row, settings

Floats = NDArray[np.float64]

SMALLEST_COUNT = 1000
"""Fewer parameters or tokens than this are a count in thousands, millions or billions, not a language model."""
LARGEST_LOSS = 13.0
"""Nats per token; guessing uniformly over the largest vocabularies in use (about 400,000) costs 12.9."""
_TOKENS_PER_PARAMETER = (1e-3, 1e6)
_CIRCUMSTANCE = re.compile(r"time|date|created|index|^column_\d+$|^_|updated|duration|seconds|host|heartbeat")
"""Columns that differ between two copies of one run."""
_JUMP = 300.0
"""Ratio between neighbouring values of d_total / n_total that no design leaves empty, and a wrong unit does."""


def all_objections(rows: Sequence[Row], columns: Sequence[str], read: Mapping[str, Sequence[str]]) -> list[Objection]:
    """Objections of every check; `read` says which columns each mapped field was made from."""
    objections: list[Objection] = []
    # Each check sees only what the ones before it left: of a checkpoint and its final row, the final one must stay.
    checks: tuple[Callable[[Sequence[Row]], Iterable[Objection]], ...] = (
        lambda rest: false_full_precision(rest, columns, read),
        lambda rest: intermediate_checkpoints(rest, columns, read),
        lambda rest: repeated_runs(rest, columns),
        mixed_units,
    )
    for check in checks:
        objected = {objection.row for objection in objections}
        objections += check([row for row in rows if row.number not in objected])
    return objections


def repeated_runs(rows: Sequence[Row], columns: Sequence[str]) -> Iterator[Objection]:
    """Rows that give again what an earlier row gave: the same run_id, or the same cells throughout.

    Rows of other names or settings are other runs, however equal their losses.
    """
    compared = [c for c in columns if not _CIRCUMSTANCE.search(normalised(c))]
    by_name: dict[str, Row] = {}
    by_values: dict[Any, Row] = {}
    results = [(setting, row.values.get("loss")) for setting, row in zip(settings(rows), rows, strict=True)]
    counts = Counter(results)
    for row, result in zip(rows, results, strict=True):
        name = row.values.get("run_id")
        earlier = by_name.get(name) if name is not None else None
        if earlier is not None and earlier.values.get("d_total") == row.values.get("d_total"):
            same = earlier.values.get("loss") == row.values.get("loss")
            reason = f"the run '{name}' is already in row {earlier.number}" + ("" if same else ", with another loss")
            yield Objection(row.number, "run_id", reason, "repeated" if same else "unusable")
            continue
        # Tables may be wide: only rows of one result need a look at all their cells.
        key = (result, tuple([str(row.cells.get(c)) for c in compared]) if counts[result] > 1 else row.number)
        twin = by_values.get(key)
        if twin is not None and row.values.get("loss") is not None:
            reason = f"every mapped value is that of row {twin.number}: the same run twice"
            yield Objection(row.number, "run_id", reason, "repeated")
            continue
        by_values[key] = row
        if name is not None:
            by_name.setdefault(name, row)


def mixed_units(rows: Sequence[Row]) -> list[Objection]:
    """Counts in thousands, millions or billions, losses in bits or as perplexities, among those that are not."""
    size, tokens, loss = (_array(rows, field) for field in ("n_total", "d_total", "loss"))
    few = [("n_total", "parameters", size), ("d_total", "tokens", tokens)]
    small = [(field, noun, (counts > 0) & (counts < SMALLEST_COUNT)) for field, noun, counts in few]
    large = loss > LARGEST_LOSS
    odd = np.logical_or.reduce([mask for *_, mask in small]) | large
    objections = []
    for index in np.flatnonzero(odd).tolist():
        row = rows[index]
        for field, noun, mask in small:
            if mask[index]:
                count = row.values[field]
                reason = f"{field} is {count}; so few {noun} look like another unit (--map {field}=COLUMN*1e6?)"
                objections.append(Objection(row.number, field, reason))
        if large[index]:
            what = (
                f"loss is {loss[index]:g}; more than {LARGEST_LOSS:g} nats per token looks like a perplexity or a sum"
            )
            objections.append(Objection(row.number, "loss", what))
    sound = np.flatnonzero(~odd)
    rest = [rows[index] for index in sound.tolist()]
    return [*objections, *_odd_ratios(rest, size[sound], tokens[sound]), *_losses_in_bits(rest)]


def _array(rows: Sequence[Row], field: str) -> Floats:
    """A field of all rows, 0 where it is missing."""
    return np.array([row.values.get(field) or 0 for row in rows], dtype=np.float64)


def _odd_ratios(rows: Sequence[Row], size: Floats, tokens: Floats) -> list[Objection]:
    """Rows whose tokens per parameter are a wrong unit away from those of the other rows."""
    known = np.flatnonzero((size > 0) & (tokens > 0))
    ratio = tokens[known] / size[known]
    order = np.argsort(ratio, kind="stable")
    known, ratio = known[order], ratio[order]
    low, high = _TOKENS_PER_PARAMETER
    odd = (ratio < low) | (ratio > high)
    others = f"where {low:g} to {high:g} are plausible"
    for jump in np.flatnonzero(ratio[1:] / ratio[:-1] > _JUMP).tolist():
        # The smaller side is the odd one; between equals, the side with more tokens per parameter.
        below, above = slice(0, jump + 1), slice(jump + 1, None)
        side, rest = (below, above) if jump + 1 < len(ratio) - jump - 1 else (above, below)
        others = f"where the other rows have {ratio[rest][0]:.3g} to {ratio[rest][-1]:.3g}"
        odd[side] = True
    why = "d_total / n_total is {:.3g} tokens per parameter, {}: mixed units?"
    return [
        Objection(rows[known[i]].number, "d_total", why.format(ratio[i], others)) for i in np.flatnonzero(odd).tolist()
    ]


def _losses_in_bits(rows: Sequence[Row]) -> Iterator[Objection]:
    """Losses 1/ln 2 times that of another row with the same configuration: bits among nats."""
    groups: dict[Any, list[Row]] = {}
    for row, setting in zip(rows, settings(rows, without=("seed",)), strict=True):
        if (row.values.get("loss") or 0) > 0:
            groups.setdefault(setting, []).append(row)
    for members in groups.values():
        least = min(members, key=lambda row: row.values["loss"])
        for row in members:
            if abs(row.values["loss"] / least.values["loss"] * math.log(2) - 1) < 0.01:
                loss, twin = row.values["loss"], least.number
                reason = f"loss is {loss:g}, 1.44 times that of its twin in row {twin}: bits among nats?"
                yield Objection(row.number, "loss", reason)
