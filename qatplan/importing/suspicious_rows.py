"""Rows of a foreign table that can be read but look wrong.

Each check looks at all rows together and returns the rows it objects to, with one sentence for each: full precision
that is not, intermediate checkpoints among final results, runs given twice, and units that do not agree.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from qatplan.importing.recognise import PLANS, RUN_NAMES, STEPS, find, normalised
from qatplan.importing.values import BIT_FIELDS, number_or_none
from qatplan.runs.schema import CONTROL_BITS

SMALLEST_COUNT = 1000
"""Fewer parameters or tokens than this are a count in thousands, millions or billions, not a language model."""
LARGEST_LOSS = 13.0
"""Nats per token; guessing uniformly over the largest vocabularies in use (about 400,000) costs 12.9."""
_TOKENS_PER_PARAMETER = (1e-3, 1e6)
_JUMP = 300.0
"""Ratio between neighbouring values of d_total / n_total that no design leaves empty, and a wrong unit does."""
_LOW_BIT_TEXT = re.compile(
    r"(?:FP|Fp|INT|Int|NF|(?<![A-Za-z])(?:mx|nv)?(?:fp|int|nf|w))([1-8])(?!\d)|(?<!\d)([1-8])-?bit"
)
_WIDTH_COLUMN = re.compile(r"(?:^|_)[awn]?bits?(?:$|_)|bit_?width")
_FORMAT_COLUMN = re.compile(r"quant|format|(?:^|_)fmt|precision|dtype|(?:^|_)w(?:eight)?_?type|scheme|recipe|method")
_NO_QUANTIZER = frozenset({"", "none", "no", "noquantizer", "identity", "null", "false", "fp", "full", "bf16", "fp16"})
_OF_ACTIVATIONS = re.compile(r"^a_|^act|activation|^abits")
_ELSEWHERE = re.compile(r"^bits_per|kv|emb|cache|grad|optim|head")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One usable row on its way in."""

    number: int
    cells: Mapping[str, Any]
    """What the file says, by its own column names."""
    values: Mapping[str, Any]
    """Our fields, as far as they were mapped."""
    given: Mapping[str, Any]
    """The cell or number each mapped field was made from, before conversion."""


@dataclass(frozen=True)
class Objection:
    """Why one row looks wrong."""

    row: int
    field: str
    reason: str


def all_objections(rows: Sequence[Row], columns: Sequence[str], read: Mapping[str, Sequence[str]]) -> list[Objection]:
    """Objections of every check; `read` says which columns each mapped field was made from."""
    objections: list[Objection] = []
    # Each check sees only what the ones before it left: of a checkpoint and its final row, the final one must stay.
    checks: tuple[Callable[[Sequence[Row]], Iterable[Objection]], ...] = (
        lambda rest: false_full_precision(rest, columns, read),
        lambda rest: intermediate_checkpoints(rest, columns),
        repeated_runs,
        mixed_units,
    )
    for check in checks:
        objected = {objection.row for objection in objections}
        objections += check([row for row in rows if row.number not in objected])
    return objections


def false_full_precision(
    rows: Sequence[Row], columns: Sequence[str], read: Mapping[str, Sequence[str]]
) -> Iterator[Objection]:
    """Rows that pass for full precision although another column names a low-bit format."""
    taken = {c for f in (*BIT_FIELDS, "run_id", "loss", "bits_per_byte") for c in read.get(f, ())}
    names = {c: normalised(c) for c in columns if c not in taken and not _ELSEWHERE.search(normalised(c))}
    for field in ("bits", "activation_bits") if "activation_bits" in read else ("bits",):
        of_field = {c: n for c, n in names.items() if bool(_OF_ACTIVATIONS.search(n)) == (field == "activation_bits")}
        widths = [c for c, name in of_field.items() if _WIDTH_COLUMN.search(name)]
        formats = [c for c, name in of_field.items() if c not in widths and _FORMAT_COLUMN.search(name)]
        for row in rows:
            bits, logged = row.values.get(field), row.given.get(field)
            if bits not in (None, CONTROL_BITS):
                continue
            signs = [f"{c} says {row.cells[c]}" for c in widths if _low_bits(row.cells.get(c))]
            signs += [f"{c} is {row.cells[c]}" for c in formats if _names_low_bits(c, row.cells.get(c))]
            if field == "bits" and bits is None and (row.values.get("d_qat") or 0) > 0:
                signs.append("d_qat is more than 0")
            if signs:
                start = f"no {field} are given" if logged in (None, "") else f"{field} is given as {logged}"
                why = f"{start}, which is full precision, but {' and '.join(signs)}; map the bits that were really used"
                yield Objection(row.number, field, why)


def _low_bits(cell: Any) -> bool:
    value = number_or_none(cell)
    return bool(_LOW_BIT_TEXT.search(str(cell))) if value is None else 0 < value < 16


def _names_low_bits(column: str, cell: Any) -> bool:
    if not isinstance(cell, str):
        return False
    # A quantizer of activations alone leaves the weights in full precision.
    names_quantizer = normalised(column) in ("quantizer", "w_quant", "weight_quantizer")
    return bool(_LOW_BIT_TEXT.search(cell)) or (names_quantizer and cell.strip().lower() not in _NO_QUANTIZER)


def intermediate_checkpoints(rows: Sequence[Row], columns: Sequence[str]) -> Iterator[Objection]:
    """Rows of a run that goes on in another row, and rows that had not come to their planned end."""
    step_column, plan_column, name_column = find(columns, STEPS), find(columns, PLANS), find(columns, RUN_NAMES)
    groups: dict[Any, list[tuple[float, Row]]] = {}
    for row in rows:
        step = _known(row.cells.get(step_column)) if step_column else None
        plan = _known(row.cells.get(plan_column)) if plan_column else None
        # W&B's own _step counts calls of its log function, not training steps.
        if step is not None and plan is not None and step_column != "_step" and step < 0.99 * plan:
            reason = f"an intermediate checkpoint: {step_column} is {step:g} of {plan_column} {plan:g}"
            yield Objection(row.number, "loss", reason)
            continue
        name = row.values.get("run_id")
        key: Any = name
        progress = _known(row.values.get("d_total")) if step is None and name is not None else step
        if name is None:
            # A name that nobody mapped may be shared by runs of several sizes and budgets, so it takes a step to tell.
            name = row.cells.get(name_column) if name_column else None
            size = tuple(row.values.get(field) for field in ("n_total", "bits", "seed"))
            key = (str(name), *size) if name not in (None, "") else configuration(row)
        if progress is not None:
            groups.setdefault(key, []).append((progress, row))
    measure = step_column or "d_total"
    for members in groups.values():
        furthest, last = max(members, key=lambda member: member[0])
        for progress, row in members:
            if progress < furthest:
                on = f"the same run goes on to {furthest:g} in row {last.number}"
                reason = f"an intermediate checkpoint: {measure} is {progress:g}, and {on}"
                yield Objection(row.number, "loss", reason)


def repeated_runs(rows: Sequence[Row]) -> Iterator[Objection]:
    """Rows that give again what an earlier row gave: the same run_id, or the same values throughout."""
    by_name: dict[str, Row] = {}
    by_values: dict[Any, Row] = {}
    for row in rows:
        name = row.values.get("run_id")
        earlier = by_name.get(name) if name is not None else None
        if earlier is not None and earlier.values.get("d_total") == row.values.get("d_total"):
            same = earlier.values.get("loss") == row.values.get("loss")
            reason = f"the run '{name}' is already in row {earlier.number}" + ("" if same else ", with another loss")
            yield Objection(row.number, "run_id", reason)
            continue
        key = (configuration(row), row.values.get("loss"))
        twin = by_values.get(key)
        if twin is not None and row.values.get("loss") is not None:
            reason = f"every mapped value is that of row {twin.number}: the same run twice"
            yield Objection(row.number, "run_id", reason)
            continue
        by_values[key] = row
        if name is not None:
            by_name.setdefault(name, row)


def mixed_units(rows: Sequence[Row]) -> list[Objection]:
    """Counts in thousands, millions or billions, losses in bits or as perplexities, among those that are not."""
    objections = []
    for row in rows:
        for field, noun in (("n_total", "parameters"), ("d_total", "tokens")):
            count = row.values.get(field)
            if count is not None and 0 < count < SMALLEST_COUNT:
                reason = f"{field} is {count}; so few {noun} look like another unit (--map {field}=COLUMN*1e6?)"
                objections.append(Objection(row.number, field, reason))
        loss = row.values.get("loss")
        if loss is not None and loss > LARGEST_LOSS:
            reason = f"loss is {loss:g}; more than {LARGEST_LOSS:g} nats per token looks like a perplexity or a sum"
            objections.append(Objection(row.number, "loss", reason))
    objected = {objection.row for objection in objections}
    sound = [row for row in rows if row.number not in objected]
    return [*objections, *_odd_ratios(sound), *_losses_in_bits(sound)]


def _odd_ratios(rows: Sequence[Row]) -> list[Objection]:
    """Rows whose tokens per parameter are a wrong unit away from those of the other rows."""
    counts = [(row.values.get("d_total") or 0, row.values.get("n_total") or 0, row.number) for row in rows]
    ratios = sorted((d / n, number) for d, n, number in counts if d > 0 and n > 0)
    low, high = _TOKENS_PER_PARAMETER
    odd = {number: ratio for ratio, number in ratios if not low <= ratio <= high}
    others = f"where {low:g} to {high:g} are plausible"
    for (below, _), (above, _) in pairwise(ratios):
        if above / below > _JUMP:
            first = [pair for pair in ratios if pair[0] <= below]
            second = [pair for pair in ratios if pair[0] >= above]
            # The smaller side is the odd one; between equals, the side with more tokens per parameter.
            side, rest = (first, second) if len(first) < len(second) else (second, first)
            others = f"where the other rows have {rest[0][0]:.3g} to {rest[-1][0]:.3g}"
            odd |= {number: ratio for ratio, number in side}
    why = "d_total / n_total is {:.3g} tokens per parameter, {}: mixed units?"
    return [Objection(number, "d_total", why.format(ratio, others)) for number, ratio in odd.items()]


def _losses_in_bits(rows: Sequence[Row]) -> Iterator[Objection]:
    """Losses 1/ln 2 times that of another row with the same configuration: bits among nats."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        if (row.values.get("loss") or 0) > 0:
            groups.setdefault(configuration(row, leave_out=("seed",)), []).append(row)
    for members in groups.values():
        least = min(members, key=lambda row: row.values["loss"])
        for row in members:
            if abs(row.values["loss"] / least.values["loss"] * math.log(2) - 1) < 0.01:
                loss, twin = row.values["loss"], least.number
                reason = f"loss is {loss:g}, 1.44 times that of its twin in row {twin}: bits among nats?"
                yield Objection(row.number, "loss", reason)


_RESULTS = frozenset({"run_id", "loss", "loss_se", "bits_per_byte", "seconds", "tokens_per_second", "finished_at"})


def configuration(row: Row, leave_out: Sequence[str] = ()) -> tuple[tuple[str, Any], ...]:
    """What was mapped about a run except its name and results: equal for repeats of one run."""
    known = ((k, v) for k, v in row.values.items() if v is not None and k not in _RESULTS and k not in leave_out)
    return tuple(sorted(known))


def _known(cell: Any) -> float | None:
    value = number_or_none(cell)
    return None if value is None or not math.isfinite(value) else float(value)
