"""The first sheet of an Excel workbook as rows, read by openpyxl."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qatplan.errors import UsageError
from qatplan.importing.content import Bound


def read_workbook(file: Path, bound: Bound) -> list[Mapping[str, Any]]:
    """Rows of the first sheet, whose first row with a cell names the columns; cells of formulas as last calculated.

    Raises UsageError without openpyxl, DataError where the sheet is too large, and ValueError where it is no workbook.
    """
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError:
        raise UsageError(f"{file} needs openpyxl to be read: pip install 'qatplan[xlsx]', or save it as CSV.") from None
    with zipfile.ZipFile(file) as archive:
        # A small file may unpack to any size.
        if any(part.file_size > bound.bytes_of_text for part in archive.infolist()):
            raise bound.error()
    try:
        book = load_workbook(file, read_only=True, data_only=True)
    except (InvalidFileException, KeyError, SyntaxError) as error:
        raise ValueError(str(error)) from error
    header: tuple[Any, ...] = ()
    rows: list[Mapping[str, Any]] = []
    for line in book.worksheets[0].iter_rows(values_only=True):
        # Empty ones count, too: a sheet that is a few bytes may say that it has 17 billion cells.
        bound.add(1, len(line))
        if not any(cell is not None for cell in line):
            continue
        if not header:
            header = line
            continue
        named = zip(header, line, strict=False)
        rows.append({str(name): cell for name, cell in named if name is not None and cell is not None})
    book.close()
    return rows
