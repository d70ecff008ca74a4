"""What `--map FIELD=...` may say: a column, or a product or quotient of columns and numbers such as `flops/(6*n)`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qatplan.errors import UsageError, closest
from qatplan.importing.values import CellError, number

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<quoted>'[^']*'|\"[^\"]*\"|`[^`]*`)"
    r"|(?P<name>[A-Za-z_][\w.]*)|(?P<sign>[*/()]))"
)
_DEEPEST = 50


@dataclass(frozen=True, kw_only=True)
class Formula:
    """A column, or factors multiplied and divided from left to right."""

    text: str
    columns: tuple[str, ...]
    """The columns it reads."""
    steps: tuple[tuple[str, Any], ...]
    """Postfix: ("column", name), ("number", value), ("*", None), ("/", None)."""

    @property
    def computed(self) -> bool:
        """Whether this is more than a column as it stands."""
        return len(self.steps) > 1

    def value(self, row: Mapping[str, Any]) -> Any:
        """The cell of a plain column untouched, else the number computed; None where an operand is missing.

        Raises CellError where an operand is no number or a divisor is 0.
        """
        if not self.computed and self.steps[0][0] == "column":
            return row.get(self.steps[0][1])
        stack: list[int | float | None] = []
        for kind, argument in self.steps:
            if kind == "number":
                stack.append(argument)
            elif kind == "column":
                try:
                    stack.append(number(row.get(argument)))
                except CellError as error:
                    raise CellError(f"needs column '{argument}', which {error}") from None
            else:
                right, left = stack.pop(), stack.pop()
                stack.append(self._apply(kind, left, right))
        return stack[0]

    def _apply(self, sign: str, left: int | float | None, right: int | float | None) -> int | float | None:
        if left is None or right is None:
            return None
        try:
            if sign == "*":
                return left * right
            if right == 0:
                raise CellError(f"is {self.text}, which divides by 0")
            # Whole quotients stay exact beyond the 53 bits of a float.
            exact = isinstance(left, int) and isinstance(right, int) and left % right == 0
            return left // right if exact else left / right
        except OverflowError:
            raise CellError(f"is {self.text}, which is beyond the range of numbers") from None


def parse_formula(text: str, columns: Sequence[str]) -> Formula:
    """The formula `text` over these columns; a text that is itself a column's name is that column, slashes and all.

    Names that are no plain words are quoted inside a product: `"train/tokens" * 1e6`. Raises UsageError naming what is
    not understood.
    """
    stripped = text.strip()
    if stripped in columns:
        return Formula(text=stripped, columns=(stripped,), steps=(("column", stripped),))
    tokens: list[tuple[str, str]] = []
    position = 0
    while stripped[position:].strip():
        match = _TOKEN.match(stripped, position)
        if match is None or match.lastgroup is None:
            raise UsageError(
                f"--map '{text}': '{stripped[position:].strip()[0]}' is not understood, and the whole is no column"
                f"{closest(stripped, columns)}; a product or quotient of columns and numbers is allowed."
            )
        tokens.append((match.lastgroup, match.group(match.lastgroup)))
        position = match.end()
    steps = _Parser(text, tokens, columns).whole()
    used = tuple(dict.fromkeys(argument for kind, argument in steps if kind == "column"))
    if not used:
        raise UsageError(f"--map '{text}' names no column; use --const for a constant.")
    return Formula(text=stripped, columns=used, steps=tuple(steps))


class _Parser:
    def __init__(self, text: str, tokens: list[tuple[str, str]], columns: Sequence[str]) -> None:
        self._text, self._tokens, self._columns = text, tokens, columns
        self._next = 0

    def whole(self) -> list[tuple[str, Any]]:
        steps = self._product(0)
        if self._next < len(self._tokens):
            raise UsageError(f"--map '{self._text}': '{self._tokens[self._next][1]}' is not expected there.")
        return steps

    def _product(self, depth: int) -> list[tuple[str, Any]]:
        steps = self._factor(depth)
        while self._next < len(self._tokens) and self._tokens[self._next][1] in ("*", "/"):
            sign = self._tokens[self._next][1]
            self._next += 1
            steps = [*steps, *self._factor(depth), (sign, None)]
        return steps

    def _factor(self, depth: int) -> list[tuple[str, Any]]:
        if self._next == len(self._tokens):
            raise UsageError(f"--map '{self._text}': a column or number is missing at the end.")
        if depth > _DEEPEST:
            raise UsageError(f"--map '{self._text}': more than {_DEEPEST} parentheses are nested.")
        kind, token = self._tokens[self._next]
        self._next += 1
        if token == "(":
            steps = self._product(depth + 1)
            if self._next == len(self._tokens) or self._tokens[self._next][1] != ")":
                raise UsageError(f"--map '{self._text}': a ')' is missing.")
            self._next += 1
            return steps
        if kind == "number":
            return [("number", int(token) if token.isdigit() else float(token))]
        if kind == "sign":
            raise UsageError(f"--map '{self._text}': '{token}' is not expected there.")
        name = token[1:-1] if kind == "quoted" else token
        if name not in self._columns:
            shown = ", ".join(self._columns[:30]) + (", ..." if len(self._columns) > 30 else "")
            hint = closest(name, self._columns) or f"; its columns are {shown}"
            raise UsageError(f"--map '{self._text}': the source has no column '{name}'{hint}.")
        return [("column", name)]
