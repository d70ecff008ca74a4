"""What is said about an import as a whole: what was assumed, converted or left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qatplan.importing.mapping import Formula
from qatplan.importing.recognise import Recognised
from qatplan.importing.row import Row, settings
from qatplan.importing.values import BIT_FIELDS, WHOLE, number_or_none
from qatplan.runs.schema import ALIASES


def remarks_on(
    seen: Recognised,
    formulas: Mapping[str, Formula],
    rows: Sequence[Row],
    mapping: Mapping[str, str],
    read_as: str | None,
) -> list[str]:
    """A sentence each: the tracker, what was taken by its name or could be, formats, rounding, full precision, repeats.

    `rows` are those that are written, `read_as` the column that bits were read from because nothing gave them.
    """
    notes = []
    if seen.origin != "table":
        notes.append(f"recognised as a run table of {'W&B' if seen.origin == 'wandb' else 'MLflow'}")
    mapped = {ALIASES.get(field, field) for field in mapping}
    taken = [
        f"{f}={formula.text}"
        for f, formula in formulas.items()
        if f not in mapped and f"{f}={read_as}" != f"bits={formula.text}"
    ]
    if taken:
        notes.append("taken by their names: " + ", ".join(taken))
    looks = [f"--map {f}={c}" for f, c in seen.proposed.items() if f not in formulas]
    if looks:
        notes.append("not used, but looks usable: " + " ".join(looks))
    for field, rivals in seen.rivals.items():
        if field not in formulas:
            notes.append(f"{field} is not taken, since it could be any of {', '.join(rivals)}")
    if read_as is not None:
        notes.append(f"bits are read from {read_as}: {_formats(rows)}")
    not_whole = {field: found for field in formulas if field in WHOLE and (found := _rounded(rows, field))}
    if not_whole:
        rounded, count = list(not_whole), len(set().union(*not_whole.values()))
        notes.append(f"{', '.join(rounded)} of {count} rows are not whole and were rounded")
    for field in sorted(BIT_FIELDS & set(formulas)):
        count = sum(row.values.get(field) is None and row.given.get(field) not in (None, "") for row in rows)
        if count:
            notes.append(f"{field} of 16 or more, or named so, is full precision and stored as null: {count} rows")
    return notes + _repeats(rows)


def _formats(rows: Sequence[Row]) -> str:
    """Each text that was read as a format, with the bits that it stands for."""
    found: dict[str, str] = {}
    for row in rows:
        said = str(row.given.get("bits") or "")
        bits, activations = (row.values.get(field) for field in ("bits", "activation_bits"))
        found[said] = (
            "full precision" if bits is None else f"{bits:g}" + (f" and {activations:g}" if activations else "")
        )
    shown = [f"{text or 'nothing'} is {bits}" for text, bits in sorted(found.items())]
    return ", ".join(shown[:12]) + (", ..." if len(shown) > 12 else "")


def _rounded(rows: Sequence[Row], field: str) -> set[int]:
    """The rows whose count of this field is not whole."""
    cells = [(row.number, row.given.get(field)) for row in rows]
    # Whole as they stand, most of them.
    rest = [
        (n, cell) for n, cell in cells if not isinstance(cell, int) and not (type(cell) is str and cell.isdecimal())
    ]
    found = ((number, number_or_none(cell)) for number, cell in rest if cell is not None)
    return {number for number, value in found if isinstance(value, float) and not value.is_integer()}


def _repeats(rows: Sequence[Row]) -> list[str]:
    """Runs that nothing but their loss tells apart: repeats, or a column that should have been mapped."""
    groups: dict[Any, list[int]] = {}
    for row, setting in zip(rows, settings(rows), strict=True):
        groups.setdefault(setting, []).append(row.number)
    repeated = [numbers for numbers in groups.values() if len(numbers) > 1]
    if not repeated:
        return []
    shown = "; ".join(_some(numbers) for numbers in repeated[:5]) + ("; ..." if len(repeated) > 5 else "")
    return [
        f"{len(repeated)} groups of rows differ in nothing mapped but their results (rows {shown}): "
        "if a seed or setting sets them apart, map it"
    ]


def _some(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
