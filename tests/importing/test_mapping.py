"""What --map may say."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qatplan.errors import UsageError
from qatplan.importing.mapping import parse_formula
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
        ("n / 1.5M", 2 / 3, True),
        ("n + 1", 10**6 + 1, True),
        ("-n + 2 * n", 10**6, True),
        ("2 ** 10 * n / n", 1024, True),
        ("n ** 0.5", 1000.0, True),
        ("n ** -1", 1e-6, True),
        ("log(exp(`train/loss`))", 3.5, True),
        ("log (n) / log(10)", math.log(10**6) / math.log(10), True),
        ("exp(-(n - n))", 1.0, True),
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


def test_unusable_operands_are_named() -> None:
    formula = parse_formula("flops/n", COLUMNS)
    with pytest.raises(CellError, match="divides by 0"):
        formula.value({"flops": 1, "n": 0})
    with pytest.raises(CellError, match="needs column 'n', which is 'many', not a number"):
        formula.value({"flops": 1, "n": "many"})
    with pytest.raises(CellError, match="beyond the range"):
        formula.value({"flops": 10**400, "n": 3.5})
    for text, why in (("log(n - 5)", "takes the logarithm of 0"), ("(n - 9) ** 0.5", "takes a root of -4"),
                      ("exp(n * 1000)", "beyond the range"), ("n ** n ** n ** n", "beyond the range")):  # fmt: skip
        with pytest.raises(CellError, match=why):
            parse_formula(text, COLUMNS).value({"n": 5})
    with pytest.raises(CellError, match="beyond the range"):
        parse_formula("flops*n", COLUMNS).value({"flops": 10**4000, "n": 10**4000})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flop", r"no column 'flop' \(did you mean 'flops'\?\), at character 1\."),
        ("n*xyz", "no column 'xyz'; its columns are flops, n, train/loss, .*, at character 3."),
        ("n%2", r"'%' is not understood \(allowed are \+, -, \*, /, \*\*, log, exp\), at character 2\."),
        ("sin(n)", r"'\(' is not expected here, at character 4\."),
        ("log n", "'n' is not expected here, at character 5."),
        ("train/loss*2", r"no column 'train'; quote one whose name has signs: `train/loss`, at character 1\."),
        ("flops/", "a column or number is expected instead of the end, at character 7."),
        ("flops/(6*n", r"'\)' is expected instead of the end, at character 11\."),
        ("flops/)", r"a column or number is expected instead of '\)', at character 7\."),
        ("flops n", "'n' is not expected here, at character 7."),
        ("6n*2", "'6n' is not a count: 'n' is none of K, M, B, T, at character 1."),
        ("'n*2", "the quotation mark is never closed"),
        ("6", "names no column; use --const"),
        ("", "a column or number is expected instead of the end"),
        ("__import__('os')", r"'\(' is not expected here, at character 11\."),
        ("(" * 101 + "n", "more than 100 levels are nested, at character 101."),
        ("(" * 100_000 + "n", "--map has 100001 characters; 10000 are allowed."),
        ("1" * 5000 + "*n", r"'1+\.\.\.' is not a count .*: it is out of range, at character 1\."),
        ("n*" * 3000 + "n", "more than 100 levels are nested"),
    ],
)
def test_errors(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_formula(text, COLUMNS)


PRODUCTS = st.recursive(
    st.sampled_from(["a", "b", "c", "2", "7"]),
    lambda inner: st.tuples(inner, st.sampled_from(["*", "/", " * ", " / "]), inner, st.booleans()).map(
        lambda t: f"({t[0]}{t[1]}{t[2]})" if t[3] else f"{t[0]}{t[1]}{t[2]}"
    ),
)


@given(PRODUCTS.map(lambda product: f"a*{product}"))
def test_products_and_quotients_are_pythons_own(text: str) -> None:
    cells = {"a": 3, "b": 12, "c": 5}
    exact = eval(
        re.sub(r"\d", r"Fraction(\g<0>)", text), {"Fraction": Fraction}, {k: Fraction(v) for k, v in cells.items()}
    )
    assert parse_formula(text, ("a", "b", "c")).value(cells) == pytest.approx(float(exact), rel=1e-12)


def test_words_of_other_languages_are_names_of_columns() -> None:
    columns = ("in", "not", "is", "null", "lambda")
    formula = parse_formula("in * not / is * null * lambda", columns)
    assert formula.columns == columns
    assert formula.value(dict.fromkeys(columns, 2)) == 8
