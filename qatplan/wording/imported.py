"""What `qatplan import` says: what became of every row of a foreign table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qatplan.wording.runs import listed, more
from qatplan.wording.sections import Command, Section, Table, bullets, section

if TYPE_CHECKING:
    import pyarrow as pa

    from qatplan.importing.importer import Imported
    from qatplan.importing.proposal import Proposal
    from qatplan.importing.row import Kind, Objection

SHOWN = 50
"""Rows that cannot be used and are listed; --json has all of them."""
_EXAMPLES = 5
"""Checkpoints, unfinished runs and repeats that are listed."""


def proposal_sections(proposal: Proposal, command: str) -> list[Section]:
    """What the columns suggest, what they leave open, and the command that confirms it."""
    return [
        section("Proposed", bullets(*proposal.evidence)),
        section("Open", bullets(*proposal.questions), warning=True),
        section("To confirm", Command(command)),
    ]


def first_rows_section(rows: pa.Table) -> Section:
    """The first rows as they would be written, without columns that are empty in them."""
    used = tuple(name for name in rows.column_names if rows.column(name).null_count < rows.num_rows)
    cells = tuple(tuple(None if v is None else _cell(v) for v in row.values()) for row in rows.select(used).to_pylist())
    return section("First rows", Table(headers=used, rows=cells))


def _cell(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def import_sections(imported: Imported, out: Path | None = None) -> list[Section]:
    """What was used, assumed and left out; `out` is the file it was written to."""
    usable = imported.table.num_rows
    done = f"written to {out}" if out else "can be used"
    head = f"{usable} of {imported.rows_read} rows {done}{_others(imported)}."
    if not usable:
        head = f"None of {imported.rows_read} rows can be used; nothing was written."
    unused = f"columns not used: {listed(imported.unused_columns)}" if imported.unused_columns else None
    return [
        section("Imported", head, bullets(*imported.evidence, *imported.notes, unused)),
        _rows("not written", imported.rejected),
        _rows("written although they look wrong", imported.suspect),
    ]


_KINDS: dict[Kind, tuple[str, str]] = {
    "unusable": ("cannot be used", "cannot be used"),
    "checkpoint": ("is an intermediate checkpoint", "are intermediate checkpoints"),
    "unfinished": ("did not finish", "did not finish"),
    "repeated": ("is given twice", "are given twice"),
}


def _others(imported: Imported) -> str:
    """What became of the rows that were not written, by kind."""
    counts = imported.left_out()
    said = [f"{counts[kind]} {words[counts[kind] > 1]}" for kind, words in _KINDS.items() if kind in counts]
    return "".join(f"; {words}" for words in said)


def _rows(what: str, objections: Sequence[Objection]) -> Section:
    rows = len({objection.row for objection in objections})
    bad = [objection for objection in objections if objection.kind == "unusable"][:SHOWN]
    # Of rows that every tracker has, a few are enough to see which they are.
    listed_rows = [*bad, *[objection for objection in objections if objection.kind != "unusable"][:_EXAMPLES]]
    shown = bullets(*(f"row {objection.row}: {objection.reason}" for objection in listed_rows))
    title = f"{rows} {'row' if rows == 1 else 'rows'} {what}"
    return section(title, shown, more(len(objections), len(listed_rows), "reasons"), warning=True)
