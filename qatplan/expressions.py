"""Small expressions that people write in options: read into a checked tree, and never handed to Python to run.

The grammar is Python's, read by `ast`; a `Language` lists the signs that may be used. The text is cut into tokens here
first, so that `300M` and `is null` can be written, any word can be a name, and an error names the character; Python
sees a placeholder for each name, number and text. What names mean and what signs do is up to the caller: see
`Expression.evaluate`.
"""

from __future__ import annotations

import ast
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple, TypeVar

from qatplan.errors import UsageError, shorten
from qatplan.units import parse_count

LONGEST, DEEPEST = 10_000, 100
"""Characters of an expression, and operations inside one another."""
_WORDS = r"|(?P<word>(?:is\s+not\s+null|is\s+null|not\s+in|and|or|not|in|is|null)(?![\w.]))"
_TOKEN = (
    r"\s*(?:(?P<number>(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[A-Za-z]*)|(?P<text>'[^']*'|\"[^\"]*\")"
    r"|(?P<quoted>`[^`]*`)%s|(?P<name>[A-Za-z_][\w.]*)|(?P<sign>\*\*|==|!=|<=|>=|[-+*/<>(),^]))"
)
_HINTS = dict.fromkeys(("is", "null"), "write is null or is not null") | dict.fromkeys("!~", "write not")
_HINTS |= {"=": "write == for equality", "&": "write and", "|": "write or"}
_TESTS = {"in": "in", "not in": "in", "is null": "is null", "is not null": "is null"}
"""Signs that give a condition and stand in no chain, without their `not`."""
_TESTS_OF_LISTS = ("in", "not in")
_IN_PYTHON = {"is null": "is None", "is not null": "is not None"}
_LEAVES = ("name", "number", "text")
_VALUE_ENDS = frozenset({*_LEAVES, ")"})
_TEST_ENDS = frozenset({"is null", "is not null", "]"})
"""After these a condition is complete, and nothing but another may follow; ] ends a list."""
_INFIX = frozenset({"==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "**", *_TESTS})
Kind = Literal["name", "number", "text"]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Language:
    """What one option may say."""

    option: str
    """The option, as errors name it."""
    operand: str
    """What may stand between signs, as errors name it."""
    signs: tuple[str, ...]
    """Of or, and, not, ==, !=, <, <=, >, >=, in, not in, is null, is not null, +, -, *, /, **, ^, (, ) and the comma;
    ^ is another way to write **."""
    functions: tuple[str, ...] = ()
    """Names that are functions where a bracket follows."""
    of_two: tuple[str, ...] = ()
    """Those of `functions` that take two values; the others take one."""

    def error(self, text: str, what: str, position: int) -> UsageError:
        """An error of one sentence about a character of `text`."""
        return UsageError(f'{self.option} "{shorten(text, 200)}": {what}, at character {position + 1}.')


@dataclass(frozen=True)
class Leaf:
    """A name, number or text; `position` is its first character, from 0."""

    kind: Kind
    value: str | int | float
    position: int


@dataclass(frozen=True)
class Operation:
    """A sign or function and what it works on: one part for a function of one or a sign before a value, else two.

    `in` has the value and then those of the list, `is null` the value alone; `not in` and `is not null` are the `not`
    of these. A chain such as 2 <= bits <= 4 is the `and` of its comparisons.
    """

    sign: str
    parts: tuple[Node, ...]
    position: int


Node = Leaf | Operation


@dataclass(frozen=True, kw_only=True)
class Expression:
    """What a text says, as a tree."""

    text: str
    language: Language
    tree: Node

    def leaves(self) -> Iterator[Leaf]:
        """The names, numbers and texts, from left to right; twice where a chain compares one with both neighbours."""
        rest: list[Node] = [self.tree]
        while rest:
            node = rest.pop()
            if isinstance(node, Leaf):
                yield node
            else:
                rest += reversed(node.parts)

    def evaluate(self, leaf: Callable[[Leaf], T], operation: Callable[[Operation, list[T]], T]) -> T:
        """The value: `leaf` gives that of a leaf, `operation` that of an operation from those of its parts."""

        def value(node: Node) -> T:
            return leaf(node) if isinstance(node, Leaf) else operation(node, [value(part) for part in node.parts])

        return value(self.tree)

    def error(self, what: str, position: int) -> UsageError:
        """An error of one sentence about a character of the text."""
        return self.language.error(self.text, what, position)


def parse(text: str, language: Language) -> Expression:
    """The tree of `text`. Raises UsageError naming the character, from 1, of what the language does not have."""
    if len(text) > LONGEST:
        raise UsageError(f"{language.option} has {len(text)} characters; {LONGEST} are allowed.")
    tree = _Parser(text, language).tree()
    return Expression(text=text, language=language, tree=tree)


class _Token(NamedTuple):
    kind: str
    text: str
    position: int

    @property
    def sign(self) -> str:
        """Its text, or its kind where it is no sign."""
        return self.text if self.kind == "sign" else self.kind


class _Parser:
    def __init__(self, text: str, language: Language) -> None:
        self._text, self._language = text, language
        self._tokens = [*self._scan(), _Token("end", "the end", len(text))]
        self._check_order()
        words = ["_" if t.kind in (*_LEAVES, "function") else _IN_PYTHON.get(t.text, t.text) for t in self._tokens[:-1]]
        self._source = " ".join(words)
        self._starts = [0, *accumulate(len(word) + 1 for word in words)]

    def tree(self) -> Node:
        try:
            whole = ast.parse(self._source, mode="eval").body
        except (RecursionError, MemoryError):
            raise self._too_deep(0) from None
        return self._node(whole, 0)

    def _scan(self) -> Iterator[_Token]:
        signs, position = self._language.signs, 0
        # In a language without words, `in` and `or` are names like any other.
        pattern = re.compile(_TOKEN % (_WORDS if "and" in signs else ""))
        while self._text[position:].strip():
            match = pattern.match(self._text, position)
            if match is None or match.lastgroup is None:
                rest = self._text[position:].lstrip()
                raise self._unknown(rest[0], len(self._text) - len(rest))
            kind, token, start = match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)
            if kind in ("word", "sign"):
                kind, token = "sign", " ".join(token.split())
                if token not in signs:
                    raise self._unknown(token, start)
                token = "**" if token == "^" else token
            position = match.end()
            if kind == "name" and token in self._language.functions and self._text[position:].lstrip()[:1] == "(":
                kind = "function"
            yield _Token("name", token[1:-1], start) if kind == "quoted" else _Token(kind, token, start)

    def _check_order(self) -> None:
        """Refuse the first token that cannot stand where it does: Python's words for it differ between its versions."""
        brackets: list[str] = []  # what opened each: in, not in, a function of two, or nothing of these
        prefixes, before, opener = 0, "(", ""
        for token in self._tokens:
            sign, what = token.sign, token.text if token.kind == "end" else f"'{token.text}'"
            complete = before in _VALUE_ENDS or before in _TEST_ENDS
            if sign == ")" and brackets and (complete or (before == "," and brackets[-1] in _TESTS_OF_LISTS)):
                before = "]" if brackets.pop() in _TESTS_OF_LISTS else ")"
                continue
            if complete:
                fits = sign in ("and", "or") or (sign == "," and brackets[-1:] not in ([], [""]))
                fits = fits or (before in _VALUE_ENDS and sign in _INFIX) or (sign == "end" and not brackets)
                problem = f"')' is expected instead of {what}" if brackets else f"{what} is not expected here"
            elif before in ("function", *_TESTS_OF_LISTS):
                fits, problem = sign == "(", f"'(' is expected instead of {what}"
            else:
                fits = sign in (*_LEAVES, "function", "(", "+", "-")
                fits = fits or (sign == "not" and before in ("(", "and", "or", "not"))
                problem = f"{self._language.operand} is expected instead of {what}"
            if not fits:
                raise self._error(problem, token.position)
            if sign == "(":
                brackets.append(opener if before in ("function", *_TESTS_OF_LISTS) else "")
            opener = sign if sign in _TESTS_OF_LISTS else token.text if token.text in self._language.of_two else ""
            prefixes = 0 if sign in _LEAVES else prefixes + (not complete)
            if prefixes > DEEPEST:
                raise self._too_deep(token.position)
            before = sign

    def _node(self, tree: ast.expr, depth: int) -> Node:
        if depth > DEEPEST:
            raise self._too_deep(self._tokens[self._at(tree)].position)
        match tree:
            case ast.Name():
                return self._leaf(self._tokens[self._at(tree)])
            case ast.UnaryOp():
                sign, parts = self._tokens[self._at(tree)], [tree.operand]
            case ast.BinOp():
                sign, parts = self._sign_before(tree.right), [tree.left, tree.right]
            case ast.Call():
                sign, parts = self._tokens[self._at(tree)], tree.args
                if len(parts) != (wanted := 2 if sign.text in self._language.of_two else 1):
                    raise self._error(f"{sign.text} takes {wanted} values, not {len(parts)}", sign.position)
            case ast.BoolOp():
                sign, parts = self._sign_before(tree.values[1]), tree.values
            case ast.Compare():
                return self._comparison(tree, depth + 1)
            case _:
                raise TypeError(f"{type(tree).__name__} is no part of the grammar")
        return Operation(sign.text, tuple(self._node(part, depth + 1) for part in parts), sign.position)

    def _comparison(self, tree: ast.Compare, depth: int) -> Operation:
        tests: list[Operation] = []
        left = self._node(tree.left, depth)
        for side in tree.comparators:
            sign = self._sign_before(side)
            if sign.text in _TESTS:
                if len(tree.comparators) > 1:
                    raise self._error(f"'{sign.text}' is not expected here", sign.position)
                listed = side.elts if isinstance(side, ast.Tuple) else [] if "null" in sign.text else [side]
                parts = (left, *(self._node(element, depth) for element in listed))
                test = Operation(_TESTS[sign.text], parts, sign.position)
                return Operation("not", (test,), sign.position) if "not" in sign.text else test
            right = self._node(side, depth)
            tests.append(Operation(sign.text, (left, right), sign.position))
            left = right
        return tests[0] if len(tests) == 1 else Operation("and", tuple(tests), tests[0].position)

    def _leaf(self, token: _Token) -> Leaf:
        if token.kind != "number":
            kind: Kind = "text" if token.kind == "text" else "name"
            return Leaf(kind, token.text[1:-1] if kind == "text" else token.text, token.position)
        digits = token.text.replace("_", "")
        if digits.isdigit() and len(digits) <= 300:
            return Leaf("number", int(digits), token.position)
        try:
            return Leaf("number", parse_count(token.text), token.position)
        except UsageError as error:
            raise self._error(str(error).rstrip("."), token.position) from error

    def _at(self, tree: ast.expr) -> int:
        """Which token a part begins with."""
        return bisect_right(self._starts, tree.col_offset) - 1

    def _sign_before(self, right: ast.expr) -> _Token:
        """The sign between a part and the one left of it; `is null` has nothing to its right but itself."""
        index = self._at(right)
        while self._tokens[index].sign not in _IN_PYTHON and self._tokens[index - 1].sign == "(":
            index -= 1
        return self._tokens[index if self._tokens[index].sign in _IN_PYTHON else index - 1]

    def _unknown(self, sign: str, position: int) -> UsageError:
        signs = self._language.signs
        hint = "the quotation mark is never closed" if sign in "'\"`" else _HINTS.get(sign) if "and" in signs else None
        allowed = [*(other for other in signs if other not in "(),"), *self._language.functions]
        hint = hint or f"allowed are {', '.join(allowed)}"
        return self._error(f"'{sign}' is not understood ({hint})", position)

    def _too_deep(self, position: int) -> UsageError:
        return self._error(f"more than {DEEPEST} levels are nested", position)

    def _error(self, what: str, position: int) -> UsageError:
        return self._language.error(self._text, what, position)
