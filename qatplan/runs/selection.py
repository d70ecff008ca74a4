"""The expression of `--rows`: which runs to keep, e.g. `bits in (2, 4) and d_total / n_total >= 20 and seed == 0`.

    or, and, not          conditions
    == != < <= > >=       between numbers, or between texts; may be chained: 2 <= bits <= 4
    in (..), not in (..)  any of the listed values
    is null, is not null  the only conditions that see a missing value
    + - * / ( )           numbers; 300M and 1.5B are counts

A comparison with a missing value is neither true nor false, as in SQL, and a row is kept only where the whole is true:
both `bits != 4` and `not bits == 4` leave full-precision runs out; add `or bits is null` to keep them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from qatplan.errors import closest
from qatplan.runs.expressions import Expression, Language, Leaf, Operation, parse
from qatplan.runs.schema import ALIASES, BY_NAME, SCALARS

COLUMNS: tuple[str, ...] = (*SCALARS, *ALIASES, "fraction")
"""Names an expression may use; `fraction` is d_qat / d_total."""

_SIGNS = ("or", "and", "not", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "is null", "is not null")
_LANGUAGE = Language(
    option="--rows", operand="a column, number or text", signs=(*_SIGNS, "+", "-", "*", "/", "(", ")", ",")
)
_LOGIC: dict[str, Callable[..., Any]] = {"and": pc.and_kleene, "or": pc.or_kleene, "not": pc.invert}
_ARITHMETIC: dict[str, Callable[..., Any]] = {"+": pc.add, "-": pc.subtract, "*": pc.multiply, "/": pc.divide}
_COMPARE: dict[str, Callable[..., Any]] = {
    "==": pc.equal, "!=": pc.not_equal, "in": pc.equal,
    "<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal,
}  # fmt: skip


class _Value(NamedTuple):
    """A column or a constant while the expression is worked out."""

    kind: str
    """number, text or condition"""
    data: Any


def select(table: pa.Table, expression: str) -> pa.Table:
    """The rows of a runs table where `expression` is true, in their order.

    Raises UsageError naming the position (a character of the expression, from 1) for anything but the language above.
    """
    mask = _Rows(table, parse(expression, _LANGUAGE)).mask()
    if isinstance(mask, pa.Scalar):
        mask = pa.array([mask.as_py()] * table.num_rows, pa.bool_())
    return table.filter(mask, null_selection_behavior="drop")


class _Rows:
    """What leaves and signs mean for a table, column by column."""

    def __init__(self, table: pa.Table, expression: Expression) -> None:
        self._table, self._expression = table, expression

    def mask(self) -> Any:
        """Whether each row is kept: a column of booleans, or one for all."""
        tree = self._expression.tree
        return self._data(self._expression.evaluate(self._leaf, self._operation), tree.position, "condition")

    def _leaf(self, leaf: Leaf) -> _Value:
        if leaf.kind == "text":
            return _Value("text", pa.scalar(leaf.value))
        if leaf.kind == "number":
            # Whole numbers are compared exactly as long as a column of them can hold them.
            whole = isinstance(leaf.value, int) and leaf.value < 2**63
            return _Value("number", pa.scalar(leaf.value if whole else float(leaf.value)))
        name = str(leaf.value)
        if name not in COLUMNS:
            allowed = closest(name, COLUMNS) or f"; allowed are {', '.join(COLUMNS)}"
            if name.lower() in ("none", "null", "nan"):
                allowed = "; where a value is missing, the column `is null`"
            raise self._expression.error(f"'{name}' is no column of a run{allowed}", leaf.position)
        if name == "fraction":
            total, qat = (_real(self._table.column(side)) for side in ("d_total", "d_qat"))
            return _Value("number", pc.divide(qat, total))
        field = BY_NAME[ALIASES.get(name, name)]
        return _Value("text" if pa.types.is_string(field.type) else "number", self._table.column(field.name))

    def _operation(self, operation: Operation, values: list[_Value]) -> _Value:
        sign, places = operation.sign, [part.position for part in operation.parts]
        if sign == "is null":
            return _Value("condition", pc.is_null(values[0].data))
        if sign in _COMPARE:
            tests = [self._compare(operation, values[0], other) for other in values[1:]]
            return _Value("condition", reduce(pc.or_kleene, tests))
        if sign in _LOGIC:
            conditions = [self._data(value, place, "condition") for value, place in zip(values, places, strict=True)]
            return _Value("condition", reduce(_LOGIC[sign], conditions) if conditions[1:] else pc.invert(*conditions))
        numbers = [self._data(value, place, "number") for value, place in zip(values, places, strict=True)]
        if len(numbers) == 1:
            return _Value("number", pc.negate(_real(*numbers)) if sign == "-" else numbers[0])
        left, right = map(_real, numbers)
        if sign == "/":
            # A quotient by zero is unknown, like anything else that is missing.
            right = pc.if_else(pc.equal(right, 0.0), pa.scalar(None, pa.float64()), right)
        return _Value("number", _ARITHMETIC[sign](left, right))

    def _compare(self, operation: Operation, left: _Value, right: _Value) -> Any:
        if left.kind != right.kind or left.kind == "condition":
            what = f"'{operation.sign}' compares a {left.kind} with a {right.kind}"
            raise self._expression.error(what, operation.position)
        a, b = left.data, right.data
        whole = pa.types.is_integer(a.type) and pa.types.is_integer(b.type)
        sides = (a, b) if left.kind == "text" or whole else (_real(a), _real(b))
        return _COMPARE[operation.sign](*sides)

    def _data(self, value: _Value, position: int, kind: str) -> Any:
        if value.kind != kind:
            raise self._expression.error(f"a {kind} is expected, and this is a {value.kind}", position)
        return value.data


def _real(data: Any) -> Any:
    return data if pa.types.is_float64(data.type) else data.cast(pa.float64(), safe=False)
