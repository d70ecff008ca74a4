"""Anybody's table of runs into ours: map, convert, refuse what cannot be used, and account for every row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from qatplan import runs
from qatplan.importing.mapping import Formula, Plan, plan
from qatplan.importing.recognise import FRACTION, Recognised, recognise
from qatplan.importing.source import read_source
from qatplan.importing.suspicious_rows import Objection, Row, all_objections, configuration
from qatplan.importing.values import BIT_FIELDS, CellError, convert, fraction, number_or_none
from qatplan.runs.schema import ALIASES, BY_NAME, DIVERGED


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


def import_runs(
    source: str | Path,
    mapping: Mapping[str, str] | None = None,
    constants: Mapping[str, str] | None = None,
    *,
    diverged: bool = False,
    keep_suspect: bool = False,
) -> Imported:
    """Read `source` and turn its rows into runs.

    `mapping` gives a column or formula for a field, `constants` a value; columns that carry our names need neither.
    `diverged` records rows whose loss is NaN or infinite as diverged runs instead of rejecting them; `keep_suspect`
    writes rows that can be stored but look wrong. Raises UsageError for a mapping that cannot be, DataError for a file
    that cannot be read.
    """
    read = read_source(source)
    seen = recognise(read.columns)
    planned = plan(read.columns, seen, mapping or {}, constants or {})
    formulas = planned.formulas
    rejected = [Objection(row, "", why) for row, why in read.broken.items()]
    rows: list[Row] = []
    for index, cells in enumerate(read.rows, start=1):
        if index not in read.broken:
            row, objections = _convert_row(index, cells, planned, diverged)
            rejected += objections
            if not objections:
                rows.append(row)
    columns_of = {field: formula.columns for field, formula in formulas.items()}
    objections = all_objections(rows, read.columns, columns_of)
    # The same run_id twice cannot be stored, so no wish to keep suspects extends to it.
    hard = [o for o in objections if not keep_suspect or ("run_id" in formulas and o.field == "run_id")]
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
        suspect=tuple(o for o in objections if o not in hard),
        notes=tuple(_notes(seen, formulas, written, mapping or {})),
        origin=seen.origin,
        mapping={
            **{f: formula.text for f, formula in formulas.items()},
            **{ALIASES.get(f, f): str(v) for f, v in (constants or {}).items()},
        },
        unused_columns=tuple(c for c in read.columns if all(c not in f.columns for f in formulas.values())),
        rows_read=len(read.rows),
    )


def _convert_row(index: int, cells: Mapping[str, Any], planned: Plan, diverged: bool) -> tuple[Row, list[Objection]]:
    values: dict[str, Any] = dict(planned.constants)
    given: dict[str, Any] = {}
    objections = []
    for field, formula in planned.formulas.items():
        try:
            given[field] = cell = formula.value(cells)
            computed = formula.computed
            values[field] = fraction(cell) if field == FRACTION else convert(cell, BY_NAME[field], rounded=computed)
        except CellError as error:
            objections.append(Objection(index, field, f"{field} {error}"))
    logged = number_or_none(given.get("loss"))
    if values.get("status") == DIVERGED or (diverged and logged is not None and logged - logged != 0):
        # Whatever was logged as the loss of a diverged run, NaN or infinity among it, is none.
        values["loss"], values["status"] = None, DIVERGED
        objections = [o for o in objections if o.field != "loss"]
    elif values.get("loss") is None and not any(o.field in ("loss", "status") for o in objections):
        objections.append(Objection(index, "loss", "loss is missing"))
    _derive(values)
    return Row(number=index, cells=cells, values=values, given=given), objections


def _derive(values: dict[str, Any]) -> None:
    """Totals from their parts; d_fp and d_qat from the fraction, of which a full-precision run has none."""
    for whole, part, rest in (("d_total", "d_fp", "d_qat"), ("n_total", "n_embedding", "n_nonembedding")):
        if values.get(whole) is None and values.get(part) is not None and values.get(rest) is not None:
            values[whole] = values[part] + values[rest]
    share = values.pop(FRACTION, None)
    total = values.get("d_total")
    if total is not None and share is not None and values.get("d_qat") is None and values.get("d_fp") is None:
        values["d_qat"] = round(share * total) if values.get("bits") is not None else 0
        values["d_fp"] = total - values["d_qat"]


def _store(rows: Sequence[Row]) -> tuple[pa.Table, list[Objection]]:
    """The rows as a completed table of SCHEMA, without those that its checks refuse."""
    table = runs.complete(pa.Table.from_pylist([dict(row.values) for row in rows], schema=runs.SCHEMA))
    problems = runs.validate(table)
    objections = []
    for problem in problems:
        row = rows[problem.row - 1]
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


def _notes(
    seen: Recognised, formulas: Mapping[str, Formula], rows: Sequence[Row], mapping: Mapping[str, str]
) -> list[str]:
    notes = []
    if seen.origin != "table":
        notes.append(f"recognised as a run table of {'W&B' if seen.origin == 'wandb' else 'MLflow'}")
    mapped = {ALIASES.get(field, field) for field in mapping}
    taken = [f"{field}={formula.text}" for field, formula in formulas.items() if field not in mapped]
    if taken:
        notes.append("taken by their names: " + ", ".join(taken))
    looks = [f"--map {f}={c}" for f, c in seen.proposed.items() if f not in formulas]
    if looks:
        notes.append("not used, but looks usable: " + " ".join(looks))
    for field, rivals in seen.rivals.items():
        if field not in formulas:
            notes.append(f"{field} is not taken, since it could be any of {', '.join(rivals)}")
    for field in sorted(BIT_FIELDS & set(formulas)):
        count = sum(row.values.get(field) is None and row.given.get(field) not in (None, "") for row in rows)
        if count:
            notes.append(f"{field} of 16 or more, or named so, is full precision and stored as null: {count} rows")
    return notes + _repeats(rows)


def _repeats(rows: Sequence[Row]) -> list[str]:
    """Runs that nothing but their loss tells apart: repeats, or a column that should have been mapped."""
    groups: dict[Any, list[int]] = {}
    for row in rows:
        groups.setdefault(configuration(row), []).append(row.number)
    repeated = [numbers for numbers in groups.values() if len(numbers) > 1]
    if not repeated:
        return []
    shown = "; ".join(", ".join(map(str, numbers)) for numbers in repeated[:5]) + ("; ..." if len(repeated) > 5 else "")
    return [
        f"{len(repeated)} groups of rows differ in nothing mapped but their results (rows {shown}): "
        "if a seed or setting sets them apart, map it"
    ]
