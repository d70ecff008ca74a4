"""What `qatplan import` says: what became of every row of a foreign table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qatplan.wording.runs import more
from qatplan.wording.sections import Section, bullets, section

if TYPE_CHECKING:
    from qatplan.importing.importer import Imported
    from qatplan.importing.row import Objection

SHOWN = 50
"""Rows that are listed; --json has all of them."""


def import_sections(imported: Imported, out: Path | None = None) -> list[Section]:
    """What was used, assumed and left out; `out` is the file it was written to."""
    usable = imported.table.num_rows
    done = f"written to {out}" if out else "can be used"
    head = f"{usable} of {imported.rows_read} rows {done}."
    if not usable:
        head = f"None of {imported.rows_read} rows can be used; nothing was written."
    unused = f"columns not used: {', '.join(imported.unused_columns)}" if imported.unused_columns else None
    return [
        section("Imported", head, bullets(*imported.notes, unused)),
        _rows("not written", imported.rejected),
        _rows("written although they look wrong", imported.suspect),
    ]


def _rows(what: str, objections: Sequence[Objection]) -> Section:
    rows = len({objection.row for objection in objections})
    shown = bullets(*(f"row {objection.row}: {objection.reason}" for objection in objections[:SHOWN]))
    title = f"{rows} {'row' if rows == 1 else 'rows'} {what}"
    return section(title, shown, more(len(objections), SHOWN, "reasons"), warning=True)
