"""Where each field of an imported run comes from: a column, a product or quotient of columns, or a constant.

`--map FIELD=...` names a column or a formula such as `flops/(6*n)`, `--const FIELD=...` gives a value; columns that
are recognised fill in what neither says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from qatplan.errors import UsageError, closest
from qatplan.importing.recognise import FRACTION, Recognised
from qatplan.importing.values import CellError, convert, fraction, number
from qatplan.runs.expressions import Expression, Language, Leaf, Operation, parse
from qatplan.runs.schema import ALIASES, BY_NAME, SCALARS

MAPPABLE: tuple[str, ...] = (*SCALARS, *ALIASES, FRACTION)
"""FIELD names of --map and --const."""
_LANGUAGE = Language(option="--map", operand="a column or number", signs=("*", "/", "(", ")"))
_SHOWN = 30
_LARGEST = 4096
"""Bits of a whole number; floats end at 1024, and Python prints no number of more than 4300 digits."""
_NEEDED = (
    ("loss", (("loss",),)),
    ("n_params", (("n_total",), ("n_embedding", "n_nonembedding"))),
    ("d_total", (("d_total",), ("d_fp", "d_qat"))),
)
"""What every run needs, as messages name it, and the fields that give it."""


@dataclass(frozen=True, kw_only=True)
class Formula:
    """A column, or columns and numbers multiplied and divided."""

    expression: Expression

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns it reads."""
        return tuple(dict.fromkeys(v for leaf in self.expression.leaves() if isinstance(v := leaf.value, str)))

    @property
    def text(self) -> str:
        """As it was written."""
        return self.expression.text

    @property
    def computed(self) -> bool:
        """Whether this is more than a column as it stands."""
        return isinstance(self.expression.tree, Operation)

    def value(self, row: Mapping[str, Any]) -> Any:
        """The cell of a plain column untouched, else the number computed; None where an operand is missing.

        Raises CellError where an operand is no number or a divisor is 0.
        """
        if not self.computed:
            return row.get(self.columns[0])

        def operand(leaf: Leaf) -> int | float | None:
            if not isinstance(leaf.value, str):
                return leaf.value
            try:
                return number(row.get(leaf.value))
            except CellError as error:
                raise CellError(f"needs column '{leaf.value}', which {error}") from None

        return self.expression.evaluate(operand, self._combine)

    def _combine(self, operation: Operation, values: list[int | float | None]) -> int | float | None:
        left, right = values
        if left is None or right is None:
            return None
        try:
            if operation.sign == "*":
                product = left * right
                if isinstance(product, int) and product.bit_length() > _LARGEST:
                    raise OverflowError
                return product
            if right == 0:
                raise CellError(f"is {self.text}, which divides by 0")
            # Whole quotients stay exact beyond the 53 bits of a float.
            exact = isinstance(left, int) and isinstance(right, int) and left % right == 0
            return left // right if exact else left / right
        except OverflowError:
            raise CellError(f"is {self.text}, which is beyond the range of numbers") from None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Where every field comes from."""

    formulas: dict[str, Formula]
    constants: dict[str, Any]


def plan(columns: Sequence[str], seen: Recognised, mapping: Mapping[str, str], constants: Mapping[str, str]) -> Plan:
    """The formula or constant of every field: what the user gives before what the columns suggest.

    Raises UsageError for an unknown field or column, a field given twice, and one that every run needs and none gives.
    """
    for field in (*mapping, *constants):
        if field not in MAPPABLE:
            hint = closest(field, MAPPABLE) or f"; allowed are {', '.join(MAPPABLE)}"
            raise UsageError(f"'{field}' is no field of a run{hint}.")
    mapped = {ALIASES.get(field, field): text for field, text in mapping.items()}
    fixed: dict[str, Any] = {}
    for field, text in constants.items():
        name = ALIASES.get(field, field)
        if name in mapped or name in fixed:
            raise UsageError(f"{field} is given twice, by --map and --const or by two of its names.")
        try:
            fixed[name] = fraction(text) if name == FRACTION else convert(text, BY_NAME[name])
        except CellError as error:
            raise UsageError(f"--const {field}={text}: {field} {error}.") from None
    if len(mapped) < len(mapping):
        raise UsageError("n_params and n_total are the same field; map one of them.")
    formulas = {name: parse_formula(text, columns) for name, text in mapped.items()}
    suggested = {name: column_formula(column) for name, column in seen.used.items() if name not in fixed}
    result = Plan(formulas={**formulas, **{n: f for n, f in suggested.items() if n not in formulas}}, constants=fixed)
    for shown, sources in _NEEDED:
        if not any({*fields} <= {*result.formulas, *fixed} for fields in sources):
            raise UsageError(_missing(sources[0][0], shown, result, seen))
    return result


def _missing(field: str, shown: str, planned: Plan, seen: Recognised) -> str:
    """That nothing gives a field, with the option that would."""
    if field in seen.rivals:
        return f"{shown} could be any of {', '.join(seen.rivals[field])}; choose with --map {shown}=COLUMN."
    hint = f"add --map {shown}=COLUMN"
    rest = planned.formulas.get("n_nonembedding")
    text = rest.text if rest else seen.proposed.get("n_nonembedding")
    if field in seen.proposed:
        hint = f"--map {shown}={seen.proposed[field]} looks right"
    elif field == "n_total" and text:
        both = f"--map n_params={text} --map n_nonembedding={text}"
        hint = f"if the parameters of embeddings are unknown, say so with {both}"
    return f"Nothing is mapped to {shown}; {hint}."


def parse_formula(text: str, columns: Sequence[str]) -> Formula:
    """The formula `text` over these columns; a text that is itself a column's name is that column, slashes and all.

    Names that are no plain words are quoted inside a product: `"train/tokens" * 1e6`. Raises UsageError naming what is
    not understood.
    """
    text = text.strip()
    if text in columns:
        return column_formula(text)
    expression = parse(text, _LANGUAGE)
    for leaf in expression.leaves():
        if isinstance(leaf.value, str) and leaf.value not in columns:
            shown = ", ".join(columns[:_SHOWN]) + (", ..." if len(columns) > _SHOWN else "")
            hint = closest(leaf.value, columns) or f"; its columns are {shown}"
            raise expression.error(f"the source has no column '{leaf.value}'{hint}", leaf.position)
    formula = Formula(expression=expression)
    if not formula.columns:
        raise UsageError(f"--map '{text}' names no column; use --const for a constant.")
    return formula


def column_formula(column: str) -> Formula:
    """A column as it stands."""
    return Formula(expression=Expression(text=column, language=_LANGUAGE, tree=Leaf("name", column, 0)))
