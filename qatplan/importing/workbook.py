"""The first sheet of an Excel workbook as rows: a zip of XML, of which a table needs the texts and the cells."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from qatplan.importing.content import Bound

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_LETTERS = re.compile(r"[A-Z]+")


def read_workbook(file: Path, bound: Bound) -> list[Mapping[str, Any]]:
    """Rows of the first sheet, whose first row names the columns; ValueError where it is no workbook."""
    with zipfile.ZipFile(file) as archive:
        sheets = sorted(n for n in archive.namelist() if re.fullmatch(r"xl/worksheets/sheet\d+\.xml", n))
        if not sheets:
            raise ValueError("it holds no sheet")
        sheets.sort(key=lambda name: int(re.sub(r"\D", "", name)))
        texts: list[str] = []
        if "xl/sharedStrings.xml" in archive.namelist():
            for item in _elements(archive, "xl/sharedStrings.xml", "si", bound):
                texts.append("".join(part.text or "" for part in item.iter(f"{_MAIN}t")))
        lines = [_cells(row, texts) for row in _elements(archive, sheets[0], "row", bound)]
    lines = [line for line in lines if line]
    if not lines:
        return []
    header = {place: str(name) for place, name in lines[0].items()}
    bound.add(len(lines), len(lines) * len(header))
    return [{header[place]: cell for place, cell in line.items() if place in header} for line in lines[1:]]


def _elements(archive: zipfile.ZipFile, name: str, tag: str, bound: Bound) -> Iterator[ElementTree.Element]:
    if archive.getinfo(name).file_size > bound.bytes_of_text:
        raise bound.error()
    try:
        with archive.open(name) as stream:
            for _, element in ElementTree.iterparse(stream):
                if element.tag == _MAIN + tag:
                    yield element
                    element.clear()
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from error


def _cells(row: ElementTree.Element, texts: list[str]) -> dict[str, Any]:
    """The cells of a row by the letters of their columns."""
    found: dict[str, Any] = {}
    for i, cell in enumerate(row.iter(f"{_MAIN}c")):
        letters = _LETTERS.match(cell.get("r", ""))
        value = cell.find(f"{_MAIN}v")
        kind, said = cell.get("t"), "" if value is None else value.text or ""
        if kind == "inlineStr":
            said = "".join(part.text or "" for part in cell.iter(f"{_MAIN}t"))
        if said:
            read = texts[int(said)] if kind == "s" else said == "1" if kind == "b" else said
            found[letters[0] if letters else str(i)] = read
    return found
