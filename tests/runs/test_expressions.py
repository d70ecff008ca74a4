"""--rows expressions, against a plain Python reading of the same expression."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qatplan import runs
from qatplan.errors import UsageError

ROWS = [
    {"run_id": "a", "n_total": 100, "d_total": 1000, "d_fp": 1000, "d_qat": 0, "seed": 0, "loss": 3.0, "corpus": "x"},
    {"run_id": "b", "n_total": 100, "d_total": 2000, "d_fp": 1500, "d_qat": 500, "bits": 4.0, "seed": 1, "loss": 3.1},
    {
        "run_id": "c",
        "n_total": 200,
        "d_total": 4000,
        "d_fp": 1000,
        "d_qat": 3000,
        "bits": 2.0,
        "seed": 0,
        "corpus": "y",
    },
    {"run_id": "d", "n_total": 10**17 + 1, "d_total": 8000, "d_fp": 8000, "d_qat": 0, "bits": 1.58, "loss": 2.5},
]
TABLE = runs.table([{"status": "finished" if "loss" in r else "diverged", **r} for r in ROWS])


def kept(expression: str, table: pa.Table = TABLE) -> str:
    return "".join(runs.select(table, expression).column("run_id").to_pylist())


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("bits == 4", "b"),
        ("bits != 4", "cd"),
        ("not bits == 4", "cd"),
        ("not bits == 4 or bits is null", "acd"),
        ("bits is null", "a"),
        ("bits is not null", "bcd"),
        ("bits in (2, 4)", "bc"),
        ("bits in (2, 4,)", "bc"),
        ("bits not in (2, 4)", "d"),
        ("1.5 < bits <= 2", "cd"),
        ("corpus == 'x'", "a"),
        ('corpus in ("x", "y") and seed == 0', "ac"),
        ("corpus >= 'y'", "c"),
        ("d_total / n_total >= 20", "bc"),
        ("fraction > 0.2 and fraction < 3 / 4", "b"),
        ("n_params == 100", "ab"),
        ("n_total > 1B", "d"),
        ("n_total == 100000000000000001", "d"),
        ("n_total == 100000000000000000", ""),
        ("d_total / d_qat == 4", "b"),
        ("d_total / d_qat is null", "ad"),
        ("-seed == -1 or +seed == 0", "abc"),
        ("seed == 0 or seed == 1 and bits == 2", "ac"),
        ("(seed == 0 or seed == 1) and bits == 2", "c"),
        ("not not seed == 0", "ac"),
        ("2 + 3 * 2 == 8 and (2 + 3) * 2 - 1 == 9", "abcd"),
        ("1 == 2", ""),
        ("status == 'diverged'", "c"),
        ("d_total == 2e3", "b"),
        ("d_total==2K", "b"),
        ("seed == 0 and (bits is null or bits is  not  null and loss is null) and not bits in(4)", "c"),
        ("corpus == 'is null' or corpus == ' and ' or `corpus` == 'y'", "c"),
        ("(bits is null) and bits is null", "a"),
        ("2 < bits + 1 < 4 < d_qat", "c"),
        ("bits in (1 + 1, n_total / 25)", "bc"),
        ("n_total < 9999999999999999999999", "abcd"),
        ("bits == 4" + " or bits == 4" * 700, "b"),
    ],
)
def test_expressions(expression: str, expected: str) -> None:
    assert kept(expression) == expected


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "a column, number or text is expected instead of the end, at character 1."),
        ("bits = 4", "'=' is not understood (write == for equality), at character 6."),
        ("bits == 4 & seed == 0", "'&' is not understood (write and), at character 11."),
        ("corpus == 'x", "''' is not understood (the quotation mark is never closed), at character 11."),
        ("bit == 4", "'bit' is no column of a run (did you mean 'bits'?), at character 1."),
        ("colour == 4", "'colour' is no column of a run; allowed are run_id, parent_id,"),
        ("curve == 4", "'curve' is no column of a run"),
        ("bits", "a condition is expected, and this is a number, at character 1."),
        ("bits and seed == 1", "a condition is expected, and this is a number, at character 1."),
        ("not bits", "a condition is expected, and this is a number, at character 5."),
        ("corpus + 1 == 2", "a number is expected, and this is a text, at character 1."),
        ("corpus == 1", "'==' compares a text with a number, at character 8."),
        ("(bits == 4) == 1", "'==' compares a condition with a number, at character 13."),
        ("bits == null", "'null' is not understood (write is null or is not null), at character 9."),
        ("bits is 4", "'is' is not understood (write is null or is not null), at character 6."),
        ("bits in 4", "'(' is expected instead of '4', at character 9."),
        ("bits in ()", "a column, number or text is expected instead of ')', at character 10."),
        ("(bits == 4", "')' is expected instead of the end, at character 11."),
        ("bits == 4)", "')' is not expected here, at character 10."),
        ("bits == 4 seed == 0", "'seed' is not expected here, at character 11."),
        ("n_total > 4GB", "'4GB' is a number of bytes where a count is expected; write for instance 4B or 4e9,"),
        ("__import__('os')", "'(' is not expected here, at character 11."),
        ("__import__ == 1", "'__import__' is no column of a run; allowed are"),
        ("transitions == 1", "'transitions' is no column of a run"),
        ("bits.real == 4", "'bits.real' is no column of a run (did you mean 'bits'?), at character 1."),
        ("2 ** 9 == 1", "'**' is not understood (allowed are or, and, not, ==,"),
        ("2 % 9 == 1", "'%' is not understood (allowed are or, and, not, ==,"),
        ("(" * 200 + "bits == 4" + ")" * 200, "more than 100 levels are nested, at character 101."),
        ("not " * 200 + "bits == 4", "more than 100 levels are nested, at character 401."),
        ("-(" * 100 + "bits" + ")" * 100 + " == 4", "more than 100 levels are nested, at character 101."),
        ("1" + "+1" * 200 + " == bits", "more than 100 levels are nested"),
        ("1" + "+1" * 4000 + " == bits", "more than 100 levels are nested"),
        ("(" * 100_000, "--rows has 100000 characters; 10000 are allowed."),
        ("bits == " + "4" * 5000, "4...' is not a count such as 300M, 1.5B or 2e9: it is out of range, at"),
        ("1 == bits in (2, 4)", "'in' is not expected here, at character 11."),
        ("bits in (2, 4) == 1", "'==' is not expected here, at character 16."),
        ("bits in (2) + 1", "'+' is not expected here, at character 13."),
        ("bits is null + 1 == 2", "'+' is not expected here, at character 14."),
        ("bits not in 4", "'(' is expected instead of '4', at character 13."),
        ("bits in (2, null)", "'null' is not understood (write is null or is not null), at character 13."),
        ("bits in (2,,)", "a column, number or text is expected instead of ',', at character 12."),
        ("bits in (2, corpus)", "'in' compares a number with a text, at character 6."),
        ("(bits, 4) == 1", "')' is expected instead of ',', at character 6."),
        ("1 + not bits == 4", "a column, number or text is expected instead of 'not', at character 5."),
        ("corpus == 'x' 'y'", "''y'' is not expected here, at character 15."),
        ("bits == 4 or " * 1000 + "bits == 4", "10000 are allowed."),
    ],
)
def test_errors_name_the_place(expression: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        runs.select(TABLE, expression)
    assert message in str(caught.value)


def test_an_empty_table_stays_empty() -> None:
    assert kept("bits == 4 and corpus == 'x' or 1 == 1", TABLE.slice(0, 0)) == ""


# A random expression is drawn as a pair: its text, and a Python function of a row that reads None as unknown.
NUMBERS = ["bits", "seed", "n_total", "d_total", "d_qat", "loss", "group_size"]
OPERATORS = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
ARITHMETIC = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: None if b == 0 else a / b,
}


def lifted(function: Any) -> Any:
    return lambda *values: None if None in values else function(*values)


def column(name: str) -> tuple[str, Any]:
    return name, lambda row: row.get(name)


def constant(value: float) -> tuple[str, Any]:
    return repr(value), lambda row: value


def binary(parts: tuple[tuple[str, Any], str, tuple[str, Any]]) -> tuple[str, Any]:
    (left, f), sign, (right, g) = parts
    function = lifted({**OPERATORS, **ARITHMETIC}[sign])
    return f"({left} {sign} {right})", lambda row: function(f(row), g(row))


def both(parts: tuple[tuple[str, Any], tuple[str, Any]]) -> tuple[str, Any]:
    (left, f), (right, g) = parts

    def value(row: Any) -> bool | None:
        a, b = f(row), g(row)
        return False if a is False or b is False else None if a is None or b is None else True

    return f"({left} and {right})", value


def either(parts: tuple[tuple[str, Any], tuple[str, Any]]) -> tuple[str, Any]:
    (left, f), (right, g) = parts

    def value(row: Any) -> bool | None:
        a, b = f(row), g(row)
        return True if a is True or b is True else None if a is None or b is None else False

    return f"({left} or {right})", value


def negated(part: tuple[str, Any]) -> tuple[str, Any]:
    text, f = part
    return f"not {text}", lambda row: None if f(row) is None else not f(row)


def missing(part: tuple[str, Any]) -> tuple[str, Any]:
    text, f = part
    return f"({text} is null)", lambda row: f(row) is None


def member(parts: tuple[tuple[str, Any], list[int]]) -> tuple[str, Any]:
    (text, f), options = parts
    return f"({text} in ({', '.join(map(str, options))}))", lambda row: None if f(row) is None else f(row) in options


CONSTANTS = st.integers(0, 9).map(constant) | st.sampled_from([0.5, 1.58, 2.5, 100.0]).map(constant)
QUANTITIES = st.recursive(
    st.sampled_from(NUMBERS).map(column) | CONSTANTS,
    lambda inner: st.tuples(inner, st.sampled_from(list(ARITHMETIC)), inner).map(binary),
    max_leaves=4,
)
CONDITIONS = st.recursive(
    st.tuples(QUANTITIES, st.sampled_from(list(OPERATORS)), QUANTITIES).map(binary)
    | QUANTITIES.map(missing)
    | st.tuples(QUANTITIES, st.lists(st.integers(0, 4), min_size=1, max_size=3)).map(member),
    lambda inner: st.tuples(inner, inner).map(both) | st.tuples(inner, inner).map(either) | inner.map(negated),
    max_leaves=6,
)
SMALL = st.integers(1, 4)
ROW = st.fixed_dictionaries(
    {"n_total": SMALL, "d_fp": SMALL, "d_qat": st.integers(0, 3), "seed": st.none() | st.integers(-1, 2)},
    optional={"loss": st.sampled_from([0.5, 1.0, 2.5]), "group_size": SMALL},
)


@settings(max_examples=100, deadline=None)
@given(CONDITIONS, st.lists(ROW, max_size=5))
def test_selection_is_what_plain_python_keeps(condition: tuple[str, Any], drawn: list[dict[str, Any]]) -> None:
    expression, reference = condition
    rows = [
        {
            **row,
            "run_id": str(i),
            "d_total": row["d_fp"] + row["d_qat"],
            "bits": 2.0 if row["d_qat"] else None,
            "status": "finished" if "loss" in row else "diverged",
        }
        for i, row in enumerate(drawn)
    ]
    expected = [row["run_id"] for row in rows if reference(row) is True]
    assert runs.select(runs.table(rows), expression).column("run_id").to_pylist() == expected


COMPARISON = st.lists(
    st.lists(st.sampled_from(["seed", "n_total", "d_fp", "1", "2.5", "- d_fp", "+ 3"]), min_size=1, max_size=4),
    min_size=2,
    max_size=3,
)


@settings(max_examples=100, deadline=None)
@given(st.data(), st.lists(COMPARISON, min_size=1, max_size=4))
def test_precedence_is_pythons(data: st.DataObject, comparisons: list[list[list[str]]]) -> None:
    def join(parts: list[str], signs: list[str]) -> str:
        drawn = [data.draw(st.sampled_from(signs)) for _ in parts[1:]]
        return parts[0] + "".join(f" {sign} {part}" for sign, part in zip(drawn, parts[1:], strict=True))

    chains = [join([join(terms, ["+", "-", "*", "/"]) for terms in sides], list(OPERATORS)) for sides in comparisons]
    text = join([data.draw(st.sampled_from(["", "not ", "not not "])) + chain for chain in chains], ["and", "or"])
    row = {
        "run_id": "a",
        "n_total": 3,
        "d_fp": 2,
        "d_qat": 0,
        "d_total": 2,
        "seed": 5,
        "loss": 1.0,
        "status": "finished",
    }
    chosen = runs.select(runs.table([row]), text)
    assert chosen.num_rows == bool(eval(text, {}, row))


@given(st.text(alphabet="bits seed()<=>!'\"+-*/0.,andornull", max_size=20))
def test_any_text_selects_or_is_a_usage_error(text: str) -> None:
    try:
        chosen = runs.select(TABLE, text)
    except UsageError:
        return
    assert chosen.num_rows <= TABLE.num_rows
