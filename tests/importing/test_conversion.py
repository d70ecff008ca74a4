"""Columns read at once give what their cells give one by one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qatplan.importing.conversion import converted, numbers
from qatplan.importing.mapping import Plan, column_formula
from qatplan.importing.values import CellError, convert, number_or_none
from qatplan.runs.schema import BY_NAME

PLAIN = {
    "whole text": st.integers(-(10**20), 10**20).map(str),
    "counts": st.integers(0, 2**40).map(str),
    "real text": st.floats().map(str),
    "integers": st.integers(-(2**70), 2**70),
    "reals": st.floats(),
}
ODD = st.sampled_from(
    [None, "", "nan", "inf", "50M", "1,000", "10%", " 7 ", "+3", "1_000", "x", True, "٣", "1e400", "None", "W4A8", [1]]
)
COLUMNS = st.one_of(
    *(st.lists(cells, min_size=1, max_size=8) for cells in PLAIN.values()),
    st.lists(st.one_of(*PLAIN.values(), ODD), min_size=1, max_size=8),
)


@pytest.mark.parametrize("field", ["n_total", "width", "seed", "learning_rate", "bits", "loss_se", "quantizer"])
@given(cells=COLUMNS)
@settings(max_examples=60, deadline=None)
def test_a_column_has_the_values_of_its_cells(field: str, cells: list[Any]) -> None:
    planned = Plan(formulas={field: column_formula("c"), "loss": column_formula("loss")}, constants={})
    rows = [(number, {"c": cell, "loss": "3.5"}) for number, cell in enumerate(cells, start=1)]
    usable, objections = converted(rows, planned, False)
    found: dict[int, Any] = {row.number: row.values[field] for row in usable}
    found |= {objection.row: objection.reason for objection in objections}
    for number, cell in enumerate(cells, start=1):
        try:
            wanted = convert(cell, BY_NAME[field])
        except CellError as error:
            wanted = f"{field} {error}"
        assert found[number] == wanted
        assert type(found[number]) is type(wanted)


@given(cells=COLUMNS)
@settings(max_examples=100, deadline=None)
def test_numbers_of_a_column_are_those_of_its_cells(cells: list[Any]) -> None:
    for found, cell in zip(numbers(cells), cells, strict=True):
        value = number_or_none(cell)
        if found is None:
            assert value is None or not abs(value) < 2**1023 * 1.9999999999999998
        else:
            assert found == float(value)  # type: ignore[arg-type]
