"""The expression of `--rows`: which runs to keep, e.g. `bits in (2, 4) and d_total / n_total >= 20 and seed == 0`.

A small language over the columns of a runs table, parsed here and never handed to Python:

    or, and, not          conditions
    == != < <= > >=       between numbers, or between texts; may be chained: 2 <= bits <= 4
    in (..), not in (..)  any of the listed values
    is null, is not null  the only conditions that see a missing value
    + - * / ( )           numbers; 300M and 1.5B are counts

A comparison with a missing value is neither true nor false, as in SQL, and a row is kept only where the whole is true:
both `bits != 4` and `not bits == 4` leave full-precision runs out; add `or bits is null` to keep them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from qatplan.errors import UsageError, closest
from qatplan.runs.schema import ALIASES, BY_NAME
from qatplan.units import parse_count

COLUMNS: tuple[str, ...] = (*(name for name in BY_NAME if name != "curve"), *ALIASES, "fraction")
"""Names an expression may use; `fraction` is d_qat / d_total."""

_LONGEST, _DEEPEST = 10_000, 100
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[A-Za-z]*)|(?P<text>'[^']*'|\"[^\"]*\")"
    r"|(?P<name>[A-Za-z_]\w*)|(?P<sign>==|!=|<=|>=|[<>()+\-*/,]))"
)
_WORDS = frozenset({"and", "or", "not", "in", "is", "null"})
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_HINTS = {"=": "write == for equality", "&": "write and", "|": "write or", "!": "write not", "~": "write not"}


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


class _Value(NamedTuple):
    """A column or a constant while the expression is worked out."""

    kind: str
    """number, text or condition"""
    data: Any
    position: int


def select(table: pa.Table, expression: str) -> pa.Table:
    """The rows of a runs table where `expression` is true, in their order.

    Raises UsageError naming the position (a character of the expression, from 1) for anything but the language above.
    """
    if len(expression) > _LONGEST:
        raise UsageError(f"--rows has {len(expression)} characters; {_LONGEST} are allowed.")
    value = _Parser(table, expression).whole()
    mask = value.data
    if isinstance(mask, pa.Scalar):
        mask = pa.array([mask.as_py()] * table.num_rows, pa.bool_())
    return table.filter(mask, null_selection_behavior="drop")


class _Parser:
    """One pass over the tokens, each rule of the grammar one method, values computed on the way."""

    def __init__(self, table: pa.Table, expression: str) -> None:
        self._table = table
        self._expression = expression
        self._tokens = self._scan(expression)
        self._next = 0
        self._depth = 0

    def whole(self) -> _Value:
        value = self._or()
        if self._peek().kind != "end":
            self._fail(f"'{self._peek().text}' is not expected here", self._peek().position)
        return self._expect(value, "condition")

    def _scan(self, expression: str) -> list[_Token]:
        tokens, position = [], 0
        while expression[position:].strip():
            match = _TOKEN.match(expression, position)
            if match is None or match.lastgroup is None:
                start = position + len(expression[position:]) - len(expression[position:].lstrip())
                sign = expression[start]
                hint = _HINTS.get(sign) or ("the quotation mark is never closed" if sign in "'\"" else "")
                self._fail(f"'{sign}' is not understood" + (f" ({hint})" if hint else ""), start)
            kind, text = match.lastgroup, match.group(match.lastgroup)
            tokens.append(_Token("word" if text in _WORDS else kind, text, match.start(kind)))
            position = match.end()
        return [*tokens, _Token("end", "the end", len(expression))]

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, *texts: str) -> _Token | None:
        """The next token if it is one of these words or signs, which is then used up."""
        token = self._peek()
        if token.kind in ("word", "sign") and token.text in texts:
            self._next += 1
            return token
        return None

    def _need(self, text: str) -> None:
        if self._take(text) is None:
            self._fail(f"'{text}' is expected instead of {self._said()}", self._peek().position)

    def _or(self) -> _Value:
        value = self._and()
        while self._take("or"):
            value = self._logic(pc.or_kleene, value, self._and())
        return value

    def _and(self) -> _Value:
        value = self._not()
        while self._take("and"):
            value = self._logic(pc.and_kleene, value, self._not())
        return value

    def _logic(self, operation: Callable[[Any, Any], Any], left: _Value, right: _Value) -> _Value:
        a, b = self._expect(left, "condition"), self._expect(right, "condition")
        return _Value("condition", operation(a.data, b.data), left.position)

    def _not(self) -> _Value:
        if token := self._take("not"):
            value = self._expect(self._nested(self._not), "condition")
            return _Value("condition", pc.invert(value.data), token.position)
        return self._comparison()

    def _comparison(self) -> _Value:
        left = self._sum()
        if self._take("is"):
            negated = self._take("not")
            self._need("null")
            test = pc.is_valid if negated else pc.is_null
            return _Value("condition", test(left.data), left.position)
        if self._take("in"):
            return self._member(left)
        if self._take("not"):
            self._need("in")
            found = self._member(left)
            return _Value("condition", pc.invert(found.data), left.position)
        result: Any = None
        while token := self._take(*_COMPARE):
            right = self._sum()
            one = self._compare(token, left, right)
            result = one if result is None else pc.and_kleene(result, one)
            left = right
        return left if result is None else _Value("condition", result, left.position)

    def _compare(self, token: _Token, left: _Value, right: _Value) -> Any:
        if "condition" in (left.kind, right.kind) or left.kind != right.kind:
            self._fail(f"'{token.text}' compares a {left.kind} with a {right.kind}", token.position)
        return _COMPARE[token.text](*_common(left.data, right.data))

    def _member(self, left: _Value) -> _Value:
        sign = self._peek()
        self._need("(")
        found: Any = None
        while True:
            one = self._compare(_Token("sign", "==", sign.position), left, self._sum())
            found = one if found is None else pc.or_kleene(found, one)
            if not self._take(","):
                break
            if self._peek().text == ")":
                break
        self._need(")")
        return _Value("condition", found, left.position)

    def _sum(self) -> _Value:
        value = self._product()
        while token := self._take("+", "-"):
            operation = pc.add if token.text == "+" else pc.subtract
            value = self._arithmetic(operation, value, self._product())
        return value

    def _product(self) -> _Value:
        value = self._unary()
        while token := self._take("*", "/"):
            right = self._unary()
            if token.text == "/" and right.kind == "number":
                # A quotient by zero is unknown, like anything else that is missing.
                known = _real(right.data)
                right = right._replace(data=pc.if_else(pc.equal(known, 0.0), pa.scalar(None, pa.float64()), known))
            value = self._arithmetic(pc.multiply if token.text == "*" else pc.divide, value, right)
        return value

    def _arithmetic(self, operation: Callable[[Any, Any], Any], left: _Value, right: _Value) -> _Value:
        a, b = self._expect(left, "number"), self._expect(right, "number")
        return _Value("number", operation(_real(a.data), _real(b.data)), left.position)

    def _unary(self) -> _Value:
        if token := self._take("-", "+"):
            value = self._expect(self._nested(self._unary), "number")
            data = pc.negate(_real(value.data)) if token.text == "-" else value.data
            return _Value("number", data, token.position)
        return self._atom()

    def _atom(self) -> _Value:
        token = self._peek()
        if self._take("("):
            value = self._nested(self._or)
            self._need(")")
            return value
        if token.kind == "word" or token.kind == "sign" or token.kind == "end":
            self._fail(f"a column, number or text is expected instead of {self._said()}", token.position)
        self._next += 1
        if token.kind == "number":
            return _Value("number", self._number(token), token.position)
        if token.kind == "text":
            return _Value("text", pa.scalar(token.text[1:-1]), token.position)
        return self._column(token)

    def _number(self, token: _Token) -> pa.Scalar:
        try:
            value = parse_count(token.text)
        except UsageError as error:
            raise self._error(str(error).rstrip("."), token.position) from error
        whole = re.fullmatch(r"\d{1,18}", token.text)
        return pa.scalar(int(token.text), pa.int64()) if whole else pa.scalar(value, pa.float64())

    def _column(self, token: _Token) -> _Value:
        name = ALIASES.get(token.text, token.text)
        if token.text not in COLUMNS:
            allowed = closest(token.text, COLUMNS) or f"; allowed are {', '.join(COLUMNS)}"
            self._fail(f"'{token.text}' is no column of a run{allowed}", token.position)
        if name == "fraction":
            total, qat = (_real(self._table.column(side)) for side in ("d_total", "d_qat"))
            return _Value("number", pc.divide(qat, total), token.position)
        kind = "text" if pa.types.is_string(BY_NAME[name].type) else "number"
        return _Value(kind, self._table.column(name), token.position)

    def _nested(self, rule: Callable[[], _Value]) -> _Value:
        self._depth += 1
        if self._depth > _DEEPEST:
            self._fail(f"more than {_DEEPEST} levels are nested", self._peek().position)
        value = rule()
        self._depth -= 1
        return value

    def _expect(self, value: _Value, kind: str) -> _Value:
        if value.kind != kind:
            self._fail(f"a {kind} is expected, and this is a {value.kind}", value.position)
        return value

    def _said(self) -> str:
        token = self._peek()
        return token.text if token.kind == "end" else f"'{token.text}'"

    def _fail(self, what: str, position: int) -> NoReturn:
        raise self._error(what, position)

    def _error(self, what: str, position: int) -> UsageError:
        return UsageError(f'--rows "{self._expression}": {what}, at character {position + 1}.')


def _real(data: Any) -> Any:
    return data if pa.types.is_float64(data.type) else data.cast(pa.float64(), safe=False)


def _common(left: Any, right: Any) -> tuple[Any, Any]:
    """Both sides in one type: whole numbers are compared exactly, anything else as float64."""
    if pa.types.is_string(left.type) or (pa.types.is_integer(left.type) and pa.types.is_integer(right.type)):
        return left, right
    return _real(left), _real(right)
