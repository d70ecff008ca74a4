"""Small foreign tables, and what became of their rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qatplan.importing.importer import Imported, import_runs


def imported(folder: Path, rows: list[dict[str, Any]], mapping: dict[str, str], **options: Any) -> Imported:
    """The import of these rows."""
    path = folder / "theirs.json"
    path.write_text(json.dumps(rows))
    return import_runs(path, mapping, options.pop("constants", {}), **options)


def reasons(result: Imported) -> dict[int, str]:
    """All reasons against each rejected row."""
    message: dict[int, str] = {}
    for objection in result.rejected:
        message[objection.row] = "; ".join(filter(None, (message.get(objection.row), objection.reason)))
    return message
