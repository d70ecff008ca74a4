"""Where a foreign table says of how many bits a run was, and rows that pass for full precision although it does."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from qatplan.importing.formats import is_full, is_low_format, names_low_bits, widths
from qatplan.importing.recognise import RUN_NAMES, normalised
from qatplan.importing.row import Objection, Row
from qatplan.importing.values import BIT_FIELDS, MISSING, number_or_none
from qatplan.runs.schema import CONTROL_BITS

_WIDTH_COLUMN = re.compile(r"(?:^|_)[awn]?bits?(?:$|_)|bit_?width")
_FORMAT_COLUMN = re.compile(r"quant|format|(?:^|_)fmt|precision|dtype|(?:^|_)w(?:eight)?_?type|scheme|recipe|method")
_METHOD_COLUMN = re.compile(
    r"(?:w|weight|model)?_?(?:quant(?:ization|isation|izer|iser)?(?:_(?:method|scheme|format|type|config|recipe))?"
    r"|format|fmt|q_?format|method|scheme|recipe)|(?:is_)?quantized"
)
_OF_WEIGHTS = ("quantizer", "w_quant", "weight_quantizer", "quantization", "quant", "is_quantized", "quantized")
_METHODS = re.compile(
    r"quant|awq|gptq|(?<![a-z])qat(?![a-z])|(?<![a-z])ptq(?![a-z])|lsq|quip|aqlm|hqq|squeezellm|omniq|spinq|qlora|qdrop"
    r"|low[-_ ]?(?:bit|precision)",
    re.IGNORECASE,
)
_NO_QUANTIZER = MISSING | {"no", "0", "fp", "full", "false"}
_OF_ACTIVATIONS = re.compile(r"^a_|^act|activation|^abits")
_ELSEWHERE = re.compile(
    r"bits_per|kv|emb|cache|grad|optim|head|loss|ppl|perplex|nll|entropy|_bpb|metric|accuracy|score"
)
"""Columns about other numbers than the weights and activations of the model: metrics in bits among them."""
_MOST_FORMATS = 1000
"""A column of more different texts names something else."""


def format_column(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The column whose texts name the format of the weights, some of them of few bits.

    None without one, with several, and beside a column of widths in numbers. `rows` are the cells.
    """
    if width_columns(columns, rows):
        return None
    found: list[str] = []
    for column, texts in _texts(columns, rows).items():
        name = normalised(column)
        if not (_ELSEWHERE.search(name) or _OF_ACTIVATIONS.search(name) or name in RUN_NAMES):
            # In a column of any other name, only a text that is a format and nothing else counts.
            low = names_low_bits if _FORMAT_COLUMN.search(name) else is_low_format
            known = sum(widths(text) is not None for text in texts)
            if any(map(low, texts)) and 2 * known >= len(texts):
                found.append(column)
    return found[0] if len(found) == 1 else None


def width_columns(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns that give bits per weight as numbers, some of them few."""
    named = [c for c in columns if _WIDTH_COLUMN.search(name := normalised(c)) and not _ELSEWHERE.search(name)]
    named = [c for c in named if not _OF_ACTIVATIONS.search(normalised(c))]
    return [c for c in named if any(0 < (number_or_none(row.get(c)) or 0) < CONTROL_BITS for row in rows)]


def false_full_precision(
    rows: Sequence[Row], columns: Sequence[str], read: Mapping[str, Sequence[str]]
) -> Iterator[Objection]:
    """Rows that pass for full precision although another column names a low-bit format, or quantization without one.

    `read` says which columns each mapped field was made from.
    """
    taken = {c for f in (*BIT_FIELDS, "loss", "bits_per_byte") for c in read.get(f, ())}
    names = {c: normalised(c) for c in columns if c not in taken and not _ELSEWHERE.search(normalised(c))}
    labels = [c for c, name in names.items() if name in RUN_NAMES or c in read.get("run_id", ())]
    names = {c: name for c, name in names.items() if c not in labels}
    texts = _texts(list(names), [row.cells for row in rows])
    for field in ("bits", "activation_bits") if "activation_bits" in read else ("bits",):
        of_field = {c: n for c, n in names.items() if bool(_OF_ACTIVATIONS.search(n)) == (field == "activation_bits")}
        in_numbers = [c for c, name in of_field.items() if _WIDTH_COLUMN.search(name)]
        formats = [c for c, name in of_field.items() if c not in in_numbers and _FORMAT_COLUMN.search(name)]
        methods = [c for c in formats if _METHOD_COLUMN.fullmatch(of_field[c])]
        others = [c for c in texts if c in of_field and c not in in_numbers and c not in formats]
        others = [c for c in others if any(map(is_low_format, texts[c]))]
        if not (in_numbers or formats or others or labels or field == "bits"):
            continue
        for row in rows:
            bits, logged = row.values.get(field), row.given.get(field)
            if bits not in (None, CONTROL_BITS):
                continue
            signs = [f"{c} says {row.cells[c]}" for c in in_numbers if _low_width(row.cells.get(c))]
            signs += [f"{c} is {row.cells[c]}" for c in formats if _names_low_bits(names[c], row.cells.get(c))]
            signs += [f"{c} is {row.cells[c]}" for c in others if _is_text(row.cells.get(c), is_low_format)]
            if field == "bits" and bits is None:
                if (row.values.get("d_qat") or 0) > 0:
                    signs.append("d_qat is more than 0")
                if logged in (None, "") and not signs:
                    signs += [f"{c} is {row.cells[c]}" for c in methods if _quantizes(names[c], row.cells.get(c))]
                    signs += [f"{c} is {row.cells[c]}" for c in labels if _is_text(row.cells.get(c), names_low_bits)]
            if signs:
                start = f"no {field} are given" if logged in (None, "") else f"{field} is given as {logged}"
                why = f"{start}, which is full precision, but {' and '.join(signs)}; map the bits that were really used"
                yield Objection(row.number, field, why)


def _texts(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
    """The different texts of each column that could name formats; a column of none or too many is left out."""
    found: dict[str, set[str]] = {column: set() for column in columns}
    for row in rows:
        for column, cell in row.items():
            if cell and isinstance(cell, str) and (texts := found.get(column)) is not None:
                texts.add(cell)
                if len(texts) > _MOST_FORMATS:
                    del found[column]
    words = {column: {text for text in texts if any(map(str.isalpha, text))} for column, texts in found.items()}
    return {column: texts for column, texts in words.items() if texts}


def _low_width(cell: Any) -> bool:
    value = number_or_none(cell)
    return names_low_bits(str(cell)) if value is None else 0 < value < CONTROL_BITS


def _is_text(cell: Any, test: Any) -> bool:
    return isinstance(cell, str) and bool(test(cell))


def _names_low_bits(name: str, cell: Any) -> bool:
    if not isinstance(cell, str):
        return False
    # A quantizer of activations alone leaves the weights in full precision.
    names_quantizer = name in ("quantizer", "w_quant", "weight_quantizer")
    absent = is_full(cell) or cell.strip().lower() in _NO_QUANTIZER
    return names_low_bits(cell) or (names_quantizer and not absent)


def _quantizes(name: str, cell: Any) -> bool:
    """Whether a cell says that there was quantization, without saying of how many bits."""
    said = str(cell).strip().lower()
    if said == "true":
        return name in _OF_WEIGHTS
    if not isinstance(cell, str) or is_full(cell) or said in _NO_QUANTIZER or number_or_none(cell) is not None:
        return False
    return "quant" in name or _METHODS.search(said) is not None
