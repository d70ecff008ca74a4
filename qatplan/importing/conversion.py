"""The rows of a foreign table as values of our fields, a column at a time.

A column of plain numbers is read at once; cells that it cannot settle are read one by one, for the reason they give.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qatplan.importing.formats import widths
from qatplan.importing.mapping import Formula, Plan
from qatplan.importing.recognise import FRACTION
from qatplan.importing.row import Objection, Row
from qatplan.importing.values import BIT_FIELDS, TEXTS, WHOLE, CellError, convert, fraction, number_or_none
from qatplan.runs.schema import BY_NAME, DIVERGED, Field

_LONGEST = 18
"""Digits of a whole number that surely fits into 64 bits."""


def converted(
    rows: Sequence[tuple[int, Mapping[str, Any]]], planned: Plan, diverged: bool
) -> tuple[list[Row], list[Objection]]:
    """The usable ones of numbered `rows`, and why the others are not; `diverged` reads a NaN loss as diverged."""
    given: dict[str, Sequence[Any]] = {}
    values: dict[str, Sequence[Any]] = {name: [value] * len(rows) for name, value in planned.constants.items()}
    reasons: dict[int, dict[str, str]] = {}
    for field, formula in planned.formulas.items():
        given[field], values[field], wrong = _column([cells for _, cells in rows], field, formula)
        for index, reason in wrong.items():
            reasons.setdefault(index, {})[field] = reason
    if "activation_bits" not in values and "bits" in given:
        values["activation_bits"] = [
            named.activations if isinstance(cell, str) and (named := widths(cell)) is not None else None
            for cell in given["bits"]
        ]
    usable: list[Row] = []
    objections: list[Objection] = []
    losses = given.get("loss", [None] * len(rows))
    for index, ((number, cells), value, made) in enumerate(zip(rows, _each(values), _each(given), strict=True)):
        wrong_here = reasons.get(index, {})
        if value.get("loss") is None or value.get("status") == DIVERGED:
            _judge_loss(value, losses[index], wrong_here, diverged)
        if wrong_here:
            objections += [
                Objection(number, field, f"{field} {reason}", "unfinished" if field == "status" else "unusable")
                for field, reason in wrong_here.items()
            ]
            continue
        _derive(value)
        usable.append(Row(number=number, cells=cells, values=value, given=made))
    return usable, objections


def _each(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Columns as rows."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _judge_loss(values: dict[str, Any], cell: Any, reasons: dict[str, str], diverged: bool) -> None:
    """Of a run without a loss: whether it diverged, and if not why it has none."""
    logged = number_or_none(cell)
    endless = logged is not None and logged - logged != 0
    if values.get("status") == DIVERGED or (diverged and endless):
        # Whatever was logged as the loss of a diverged run, NaN or infinity among it, is none.
        values["loss"], values["status"] = None, DIVERGED
        reasons.pop("loss", None)
    elif endless and "loss" in reasons:
        reasons["loss"] += "; --diverged records such a run as diverged"
    elif not reasons.keys() & {"loss", "status"}:
        reasons["loss"] = "is missing"


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


def _column(
    rows: Sequence[Mapping[str, Any]], field: str, formula: Formula
) -> tuple[Sequence[Any], Sequence[Any], dict[int, str]]:
    """What a field is made from, its values, and by position why a value cannot be; both are None there."""
    wrong: dict[int, str] = {}
    cells: list[Any]
    if formula.column is not None:
        cells = [row.get(formula.column) for row in rows]
    else:
        cells = [None] * len(rows)
        for index, row in enumerate(rows):
            try:
                cells[index] = formula.value(row)
            except CellError as error:
                wrong[index] = str(error)
    if field == FRACTION:
        read: Callable[[Any], Any] = fraction
    else:
        plain = _plain(cells, BY_NAME[field])
        if plain is not None:
            return cells, plain, wrong

        def read(cell: Any) -> Any:
            return convert(cell, BY_NAME[field], rounded=formula.computed)

    values: list[Any] = [None] * len(rows)
    known: dict[str, Any] = {}
    for index, cell in enumerate(cells):
        is_text = isinstance(cell, str)
        if is_text and cell in known:
            values[index] = known[cell]
        elif index not in wrong:
            try:
                values[index] = read(cell)
            except CellError as error:
                wrong[index] = str(error)
            else:
                if is_text:
                    known[cell] = values[index]
    return cells, values, wrong


def _plain(cells: Sequence[Any], field: Field) -> list[Any] | None:
    """The values of a column whose every cell is a plain number that fits; None where one is not."""
    kinds = set(map(type, cells))
    if field.name in TEXTS or field.name in BIT_FIELDS or not kinds:
        return None
    if field.name not in WHOLE:
        if not (kinds == {str} or kinds <= {int, float}):
            return None
        try:
            reals = list(map(float, cells))
        except (ValueError, OverflowError):
            return None
        return reals if all(map(math.isfinite, reals)) else None
    if kinds == {str}:
        if not (all(map(str.isdecimal, cells)) and all(map(str.isascii, cells)) and max(map(len, cells)) <= _LONGEST):
            return None
        cells = list(map(int, cells))
    elif kinds != {int}:
        return None
    limit = 2 ** (_bits_of(field) - 1)
    return list(cells) if -limit <= min(cells) and max(cells) < limit else None


def _bits_of(field: Field) -> int:
    width: int = field.type.bit_width
    return width


def numbers(cells: Sequence[Any]) -> list[float | None]:
    """Cells as finite numbers; None for one that is none."""
    if set(map(type, cells)) <= {str, int, float}:
        try:
            found = list(map(float, cells))
        except (ValueError, OverflowError):
            pass
        else:
            if all(map(math.isfinite, found)):
                return list(found)
    return [_number(cell) for cell in cells]


def _number(cell: Any) -> float | None:
    value = number_or_none(cell)
    try:
        return float(value) if value is not None and math.isfinite(value) else None
    except OverflowError:
        return None
