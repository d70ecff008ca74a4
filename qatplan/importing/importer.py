"""Anybody's table of runs into ours: map, convert, refuse what cannot be used, and account for every row."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from qatplan import runs
from qatplan.errors import UsageError
from qatplan.importing.content import DEFAULT_LIMIT
from qatplan.importing.conversion import converted
from qatplan.importing.format_columns import format_column
from qatplan.importing.mapping import Plan, column_formula, in_units, plan
from qatplan.importing.notes import remarks_on
from qatplan.importing.proposal import propose
from qatplan.importing.recognise import recognise
from qatplan.importing.row import Kind, Objection, Row, fields_of
from qatplan.importing.source import Source, read_source
from qatplan.importing.suspicious_rows import all_objections
from qatplan.runs.schema import ALIASES


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What became of a foreign table: every one of its rows is in `table` or in `rejected`."""

    table: pa.Table
    """The usable runs, a table of SCHEMA in the order of the source."""
    rejected: tuple[Objection, ...]
    """Rows not written, with the reason; a row may have several."""
    suspect: tuple[Objection, ...]
    """Rows written although a check objects, because of `keep_suspect`."""
    notes: tuple[str, ...]
    """What was assumed or left out, a sentence each."""
    origin: str
    """wandb, mlflow, or table for anything else."""
    mapping: dict[str, str]
    """Field -> column, formula or constant it was made from."""
    unused_columns: tuple[str, ...]
    rows_read: int
    evidence: tuple[str, ...] = ()
    """Why the map is so, where the columns suggested all of it."""

    def left_out(self) -> dict[Kind, int]:
        """How many rows are not in the table, by kind; a row that is unfinished or a checkpoint is that alone."""
        kinds: dict[int, Kind] = {}
        for objection in self.rejected:
            if kinds.get(objection.row, "unusable") == "unusable":
                kinds[objection.row] = objection.kind
        return dict(Counter(kinds.values()))


def import_proposed(source: str | Path, *, limit: int = DEFAULT_LIMIT, **asked: Any) -> Imported:
    """`import_runs` with the map that the columns suggest.

    Raises UsageError where they leave something open; its evidence is the Proposal.
    """
    read = read_source(source, limit)
    proposal = propose(read)
    if proposal.questions:
        things = "1 thing" if len(proposal.questions) == 1 else f"{len(proposal.questions)} things"
        what = f"{source} leaves {things} open, and nothing was written; confirm or change the map that is proposed."
        raise UsageError(what, evidence=proposal)
    return replace(import_runs(read, proposal.mapping, **asked), evidence=proposal.evidence)


def import_runs(
    source: str | Path | Source,
    mapping: Mapping[str, str] | None = None,
    constants: Mapping[str, str] | None = None,
    *,
    diverged: bool = False,
    keep_suspect: bool = False,
    limit: int = DEFAULT_LIMIT,
) -> Imported:
    """Read `source` and turn its rows into runs.

    `mapping` gives a column or formula for a field, `constants` a value; columns that carry our names need neither.
    `diverged` records rows whose loss is NaN or infinite as diverged runs instead of rejecting them; `keep_suspect`
    writes rows that can be stored but look wrong; `limit` is the memory that the rows may take. Raises UsageError for a
    mapping that cannot be, DataError for a file that cannot be read.
    """
    read = source if isinstance(source, Source) else read_source(source, limit)
    seen = recognise(read.columns)
    planned = plan(read.columns, seen, mapping or {}, constants or {})
    planned, remarks = in_units(planned, read.rows)
    planned, read_as = _with_formats(planned, read)
    formulas = planned.formulas
    numbered = [(row, cells) for row, cells in enumerate(read.rows, start=1) if row not in read.broken]
    rows, unusable = converted(numbered, planned, diverged)
    rejected = [*(Objection(row, "", why) for row, why in read.broken.items()), *unusable]
    columns_of = {field: formula.columns for field, formula in formulas.items()}
    used = {column for columns in columns_of.values() for column in columns}
    objections = all_objections(rows, read.columns, columns_of)

    # The same run_id twice cannot be stored, so no wish to keep suspects extends to it.
    def is_hard(objection: Objection) -> bool:
        return not keep_suspect or ("run_id" in formulas and objection.field == "run_id")

    hard = [o for o in objections if is_hard(o)]
    rejected += hard
    refused = {objection.row for objection in hard}
    kept = [row for row in rows if row.number not in refused]
    table, problems = _store(kept)
    rejected += problems
    refused |= {problem.row for problem in problems}
    written = [row for row in kept if row.number not in refused]
    return Imported(
        table=table,
        rejected=tuple(sorted(rejected, key=lambda o: o.row)),
        suspect=tuple(o for o in objections if not is_hard(o)),
        notes=(*remarks_on(seen, formulas, written, mapping or {}, read_as), *remarks),
        origin=seen.origin,
        mapping={
            **{f: formula.text for f, formula in formulas.items()},
            **{ALIASES.get(f, f): str(v) for f, v in (constants or {}).items()},
        },
        unused_columns=tuple(c for c in read.columns if c not in used),
        rows_read=len(read.rows),
    )


def _with_formats(planned: Plan, read: Source) -> tuple[Plan, str | None]:
    """The plan with bits from the column that names formats, where nothing else gives bits; and that column."""
    if "bits" in planned.formulas or "bits" in planned.constants:
        return planned, None
    column = format_column(read.columns, read.rows)
    if column is None:
        return planned, None
    return replace(planned, formulas={**planned.formulas, "bits": column_formula(column)}), column


def _store(rows: Sequence[Row]) -> tuple[pa.Table, list[Objection]]:
    """The rows as a completed table of SCHEMA, without those that its checks refuse."""
    table = runs.complete(_arrow(rows))
    problems = runs.validate(table)
    objections = []
    for problem in problems:
        row = rows[problem.row - 1]
        part_of_missing = problem.field in ("d_fp", "d_qat") and row.values.get(problem.field) is None
        if part_of_missing and row.values.get("d_total") is None:
            continue  # the total is missing, and said to be
        reason = problem.sentence.rstrip(".")
        if problem.other is not None:
            reason += f" (row {rows[problem.other - 1].number})"
        quantized = row.values.get("bits") is not None and row.values.get("d_total") is not None
        if problem.field in ("d_fp", "d_qat") and quantized and "missing" in reason:
            reason = (
                "how its tokens split into d_fp and d_qat is unknown; map one of them, or --const fraction=1 for "
                "runs quantized from the start"
            )
        objections.append(Objection(row.number, problem.field, reason))
    bad = {problem.row - 1 for problem in problems}
    unique = list({(o.row, o.reason): o for o in objections}.values())
    return table.take(pa.array([i for i in range(len(rows)) if i not in bad], pa.int64())), unique


def _arrow(rows: Sequence[Row]) -> pa.Table:
    """The values of the rows; runs that only what is not mapped tells apart get names from all their cells."""
    columns = {field: [row.values.get(field) for row in rows] for field in fields_of(rows)}
    names = columns.setdefault("run_id", [None] * len(rows))
    seen: set[tuple[Any, ...]] = set()
    for index, key in enumerate(zip(*columns.values(), strict=True)):
        if key in seen and names[index] is None:
            cells = repr(sorted((name, str(cell)) for name, cell in rows[index].cells.items()))
            names[index] = hashlib.sha256(cells.encode()).hexdigest()[:16]
        seen.add(key)
    arrays = [
        pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(len(rows), field.type)
        for field in runs.SCHEMA
    ]
    return pa.Table.from_arrays(arrays, schema=runs.SCHEMA)
