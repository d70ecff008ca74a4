"""What --map may say."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qatplan.errors import UsageError
from qatplan.importing.formulas import parse_formula
from qatplan.importing.values import CellError

COLUMNS = ("flops", "n", "train/loss", "val loss", "d.x", "6*n")
ROW = {"flops": "6e20", "n": 10**6, "train/loss": 3.5, "val loss": "2.5", "d.x": 2**70, "6*n": "as it is"}


@pytest.mark.parametrize(
    ("text", "expected", "computed"),
    [
        ("n", 10**6, False),
        (" train/loss ", 3.5, False),
        ("val loss", "2.5", False),
        ("6*n", "as it is", False),
        ("flops/(6*n)", 1e14, True),
        ("flops / 6 / n", 1e14, True),
        ("n*1e6", 1e12, True),
        ("20*n", 2 * 10**7, True),
        ("d.x * 3", 3 * 2**70, True),
        ("d.x / 2", 2**69, True),
        ("'val loss' * 2", 5.0, True),
        ("`train/loss` / 'val loss'", 1.4, True),
        ("(((n)))", 10**6, False),
    ],
)
def test_formulas(text: str, expected: Any, computed: bool) -> None:
    formula = parse_formula(text, COLUMNS)
    value = formula.value(ROW)
    assert value == expected
    assert type(value) is type(expected)
    assert formula.computed is computed


def test_missing_operands_give_nothing() -> None:
    formula = parse_formula("flops/(6*n)", COLUMNS)
    assert formula.value({"flops": 1.0}) is None
    assert formula.value({"flops": "", "n": 3}) is None
    assert formula.columns == ("flops", "n")


def test_unusable_operands_are_said() -> None:
    formula = parse_formula("flops/n", COLUMNS)
    with pytest.raises(CellError, match="divides by 0"):
        formula.value({"flops": 1, "n": 0})
    with pytest.raises(CellError, match="needs column 'n', which is 'many', not a number"):
        formula.value({"flops": 1, "n": "many"})
    with pytest.raises(CellError, match="beyond the range"):
        formula.value({"flops": 10**400, "n": 3.5})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flop", r"no column 'flop' \(did you mean 'flops'\?\)"),
        ("xyz", "no column 'xyz'; its columns are flops, n, train/loss"),
        ("n+1", r"'\+' is not understood"),
        ("flops/", "missing at the end"),
        ("flops/(6*n", r"a '\)' is missing"),
        ("flops/)", r"'\)' is not expected there"),
        ("flops n", "'n' is not expected there"),
        ("6", "names no column; use --const"),
        ("", "missing at the end"),
        ("__import__('os')", "no column '__import__'"),
        ("(" * 100 + "n", "more than 50 parentheses"),
    ],
)
def test_errors(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_formula(text, COLUMNS)


@given(st.lists(st.tuples(st.sampled_from("*/"), st.sampled_from(["a", "b", "c", "2", "7"])), max_size=6))
def test_products_and_quotients_go_from_left_to_right(steps: list[tuple[str, str]]) -> None:
    cells = {"a": 3, "b": 12, "c": 5}
    exact = Fraction(cells["a"])
    text = "a"
    for sign, factor in steps:
        operand = cells.get(factor) or int(factor)
        exact = exact * operand if sign == "*" else exact / operand
        text += f" {sign} {factor}"
    assert parse_formula(text, ("a", "b", "c")).value(cells) == pytest.approx(float(exact), rel=1e-12)
