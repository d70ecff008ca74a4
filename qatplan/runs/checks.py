"""What makes a row of a runs table unusable, in one sentence a row and field."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from qatplan.runs.repeats import repeats
from qatplan.runs.schema import CONTROL_BITS, FIELDS, FINISHED, NAMES, STATUSES, Field


class Problem(NamedTuple):
    """A row that cannot be used: `row` counts from 1, `sentence` says what is wrong and what is allowed."""

    row: int
    field: str
    sentence: str
    other: int | None = None
    """The other row of a pair that cannot stand together."""

    def __str__(self) -> str:
        return f"Row {self.row}: {self.sentence}"


def validate(table: pa.Table) -> list[Problem]:
    """Every problem of a table that has the columns and types of SCHEMA, ordered by row; empty when it is sound.

    Vectorised: linear in rows, and no Python loop over sound ones.
    """
    problems = [problem for field in FIELDS for problem in _check_field(field, table.column(field.name))]
    problems += _check_identity(table) + _check_relations(table)
    return sorted(problems, key=lambda p: (p.row, NAMES.index(p.field)))


def _check_field(field: Field, column: pa.ChunkedArray) -> list[Problem]:
    problems = []
    if field.required:
        missing = _true(pc.is_null(column))
        problems += _each(missing, field.name, f"{field.name} is missing; every run needs it.")

    def refuse(bad: Any, rule: str) -> None:
        for i in _true(bad).tolist():
            problems.append(Problem(i + 1, field.name, f"{field.name} is {column[i].as_py()}; it must be {rule}."))

    if pa.types.is_floating(field.type):
        allowed = "null where the run diverged" if field.name == "loss" else "null where unknown"
        refuse(pc.invert(pc.is_finite(column)), f"finite, or {allowed}")
        column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, field.type))
    if field.minimum is not None:
        compare = pc.less_equal if field.open_minimum else pc.less
        rule = f"more than {field.minimum:g}" if field.open_minimum else f"{field.minimum:g} or more"
        refuse(compare(column, pa.scalar(field.minimum, pa.float64()).cast(field.type)), rule)
    return problems


def _check_identity(table: pa.Table) -> list[Problem]:
    run_id = table.column("run_id")
    problems = _each(_true(pc.equal(run_id, "")), "run_id", "run_id is empty; every run needs a name of its own.")
    for row, first, difference in repeats(table):
        how = f"already taken by another run: {difference}" if difference else "given twice, for the same run"
        problems.append(Problem(row + 1, "run_id", f"run_id '{run_id[row]}' is {how}.", first + 1))
    return problems


def _check_relations(table: pa.Table) -> list[Problem]:
    """Rules between columns. Nulls compare as unknown, so each rule speaks only where both sides are known."""
    c = {name: table.column(name) for name in NAMES}
    problems: list[Problem] = []

    def rule(bad: Any, field: str, sentence: str) -> None:
        problems.extend(_each(_true(bad), field, sentence))

    both = pc.and_kleene
    # pc.add wraps around, which cannot equal a true total of non-negative parts: no exception on absurd counts.
    split = pc.not_equal(pc.add(c["d_fp"], c["d_qat"]), c["d_total"])
    rule(split, "d_total", "d_total is not d_fp + d_qat.")
    parts = pc.not_equal(pc.add(c["n_embedding"], c["n_nonembedding"]), c["n_total"])
    rule(parts, "n_total", "n_total is not n_embedding + n_nonembedding.")
    full_precision = pc.is_null(c["bits"])
    rule(
        both(full_precision, pc.greater(c["d_qat"], 0)),
        "bits",
        "bits is null, which is full precision, yet d_qat is more than 0; give the bits per weight.",
    )
    control = both(pc.equal(c["bits"], CONTROL_BITS), pc.greater(c["d_qat"], 0))
    rule(
        both(pc.greater_equal(c["bits"], CONTROL_BITS), pc.invert(control)),
        "bits",
        "bits is 16 or more, which is full precision; leave bits null for such a run, or give 16 with d_qat more than "
        "0 for one whose second phase was in full precision.",
    )
    rule(
        both(control, pc.is_valid(c["quantizer"])),
        "quantizer",
        "bits is 16, a second phase in full precision, yet quantizer is set; leave it null.",
    )
    known = pc.is_in(c["status"], value_set=pa.array(STATUSES))
    rule(both(pc.is_valid(c["status"]), pc.invert(known)), "status", f"status must be one of {', '.join(STATUSES)}.")
    finished = pc.equal(c["status"], FINISHED)
    rule(both(finished, pc.is_null(c["loss"])), "loss", "loss is missing although the run is finished.")
    diverged = both(known, pc.invert(finished))
    rule(both(diverged, pc.is_valid(c["loss"])), "loss", "loss must be null in a diverged run.")
    named_full = pc.equal(c["schedule"], "full-precision")
    rule(both(named_full, pc.is_valid(c["bits"])), "schedule", "schedule is full-precision, yet bits is set.")
    rounded = pc.equal(c["schedule"], "post-training")
    rule(both(rounded, pc.greater(c["d_qat"], 0)), "schedule", "schedule is post-training, yet d_qat is more than 0.")
    rule(both(rounded, full_precision), "schedule", "schedule is post-training, yet bits is null.")
    return problems


def _true(mask: Any) -> NDArray[np.int64]:
    """Positions, from 0, where a boolean Arrow mask is true; null is not true."""
    return np.flatnonzero(pc.fill_null(mask, False).to_numpy())


def _each(positions: NDArray[np.int64], field: str, sentence: str) -> list[Problem]:
    return [Problem(int(i) + 1, field, sentence) for i in positions]
