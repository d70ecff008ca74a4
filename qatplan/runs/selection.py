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
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from qatplan.errors import closest
from qatplan.expressions import Expression, Language, Leaf, Operation, parse
from qatplan.runs.schema import ALIASES, SCALARS

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


def select(table: pa.Table, expression: str) -> pa.Table:
    """The rows of a runs table where `expression` is true, in their order.

    Raises UsageError naming the position (a character of the expression, from 1) for anything but the language above.
    """
    mask = _Rows(table, parse(expression, _LANGUAGE)).mask()
    if isinstance(mask, pa.Scalar):
        mask = pa.array([mask.as_py()] * table.num_rows, pa.bool_())
    return table.filter(mask, null_selection_behavior="drop")


class _Rows:
    """What leaves and signs mean for a table, column by column; a value is an Arrow column or scalar."""

    def __init__(self, table: pa.Table, expression: Expression) -> None:
        self._table, self._expression = table, expression

    def mask(self) -> Any:
        """Whether each row is kept: a column of booleans, or one for all."""
        tree = self._expression.tree
        return self._need(self._expression.evaluate(self._leaf, self._operation), tree.position, "condition")

    def _leaf(self, leaf: Leaf) -> Any:
        if leaf.kind == "text":
            return pa.scalar(leaf.value)
        if leaf.kind == "number":
            # Whole numbers are compared exactly as long as a column of them can hold them.
            whole = isinstance(leaf.value, int) and leaf.value < 2**63
            return pa.scalar(leaf.value if whole else float(leaf.value))
        name = str(leaf.value)
        if name not in COLUMNS:
            allowed = closest(name, COLUMNS) or f"; allowed are {', '.join(COLUMNS)}"
            if name.lower() in ("none", "null", "nan"):
                allowed = "; where a value is missing, the column `is null`"
            raise self._expression.error(f"'{name}' is no column of a run{allowed}", leaf.position)
        if name == "fraction":
            return pc.divide(*(_real(self._table.column(side)) for side in ("d_qat", "d_total")))
        return self._table.column(ALIASES.get(name, name))

    def _operation(self, operation: Operation, values: list[Any]) -> Any:
        sign, places = operation.sign, [part.position for part in operation.parts]
        if sign == "is null":
            return pc.is_null(values[0])
        if sign in _COMPARE:
            return reduce(pc.or_kleene, [self._compare(operation, values[0], other) for other in values[1:]])
        kind = "condition" if sign in _LOGIC else "number"
        values = [self._need(value, place, kind) for value, place in zip(values, places, strict=True)]
        if sign in _LOGIC:
            return reduce(_LOGIC[sign], values) if values[1:] else pc.invert(*values)
        if len(values) == 1:
            return pc.negate(_real(*values)) if sign == "-" else values[0]
        left, right = map(_real, values)
        if sign == "/":
            # A quotient by zero is unknown, like anything else that is missing.
            right = pc.if_else(pc.equal(right, 0.0), pa.scalar(None, pa.float64()), right)
        return _ARITHMETIC[sign](left, right)

    def _compare(self, operation: Operation, left: Any, right: Any) -> Any:
        if _kind(left) != _kind(right) or _kind(left) == "condition":
            what = f"'{operation.sign}' compares a {_kind(left)} with a {_kind(right)}"
            raise self._expression.error(what, operation.position)
        whole = pa.types.is_integer(left.type) and pa.types.is_integer(right.type)
        sides = (left, right) if _kind(left) == "text" or whole else (_real(left), _real(right))
        return _COMPARE[operation.sign](*sides)

    def _need(self, value: Any, position: int, kind: str) -> Any:
        if _kind(value) != kind:
            raise self._expression.error(f"a {kind} is expected, and this is a {_kind(value)}", position)
        return value


def _kind(data: Any) -> str:
    return "text" if pa.types.is_string(data.type) else "condition" if pa.types.is_boolean(data.type) else "number"


def _real(data: Any) -> Any:
    return data if pa.types.is_float64(data.type) else data.cast(pa.float64(), safe=False)
