"""Where each field of an imported run comes from: a column, a formula of columns, or a constant.

`--map FIELD=...` names a column or a formula such as `flops/(6*n)` or `log(ppl)`, `--const FIELD=...` gives a value;
columns that are recognised fill in what neither says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from qatplan.errors import UsageError, closest, shorten
from qatplan.expressions import Expression, Language, Leaf, Operation, parse
from qatplan.importing.recognise import FRACTION, Recognised
from qatplan.importing.units import COUNTS, conversion, quote, unscaled
from qatplan.importing.values import CellError, convert, fraction, number, number_or_none
from qatplan.runs.schema import ALIASES, BY_NAME, SCALARS

MAPPABLE: tuple[str, ...] = (*SCALARS, *ALIASES, FRACTION)
"""FIELD names of --map and --const."""
_LANGUAGE = Language(
    option="--map", operand="a column or number", signs=("+", "-", "*", "/", "**", "(", ")"), functions=("log", "exp")
)
_SHOWN = 80
"""Characters of the columns that a message lists."""
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
    """A column, or arithmetic of columns and numbers; `log` is the natural logarithm."""

    expression: Expression

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns it reads."""
        return tuple(dict.fromkeys(v for leaf in self.expression.leaves() if isinstance(v := leaf.value, str)))

    @cached_property
    def column(self) -> str | None:
        """The column that stands for itself; None where something is computed."""
        return None if self.computed else self.columns[0]

    @property
    def text(self) -> str:
        """As it was written."""
        return self.expression.text

    @cached_property
    def computed(self) -> bool:
        """Whether this is more than a column as it stands."""
        return isinstance(self.expression.tree, Operation)

    def value(self, row: Mapping[str, Any]) -> Any:
        """The cell of a plain column untouched, else the number computed; None where an operand is missing.

        Raises CellError where an operand is no number or a divisor is 0.
        """
        if self.column is not None:
            return row.get(self.column)

        def operand(leaf: Leaf) -> int | float | None:
            if not isinstance(leaf.value, str):
                return leaf.value
            try:
                return number(row.get(leaf.value))
            except CellError as error:
                raise CellError(f"needs column '{leaf.value}', which {error}") from None

        return self.expression.evaluate(operand, self._combine)

    def _combine(self, operation: Operation, values: list[int | float | None]) -> int | float | None:
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return None
        try:
            return _arithmetic(operation.sign, known)
        except ZeroDivisionError:
            raise CellError(f"is {self.text}, which divides by 0") from None
        except OverflowError:
            raise CellError(f"is {self.text}, which is beyond the range of numbers") from None
        except ValueError as error:
            raise CellError(f"is {self.text}, which {error}") from None


def _arithmetic(sign: str, values: list[int | float]) -> int | float:
    """A sum, product, power or function; whole numbers stay exact. Raises ArithmeticError, or ValueError with why."""
    left, right = values if len(values) == 2 else (values[0], 0)
    if sign == "log":
        if not left > 0:
            raise ValueError(f"takes the logarithm of {left:g}")
        return math.log(left)
    if sign == "exp":
        return math.exp(left)
    if sign in "+-":
        right = right if sign == "+" else -right
        return _bounded(left + right) if len(values) == 2 else left if sign == "+" else -left
    if sign == "**":
        if left < 0 and not float(right).is_integer():
            raise ValueError(f"takes a root of {left:g}")
        if not isinstance(left, int) or not isinstance(right, int) or right < 0:
            return float(left) ** right
        # A whole power is as long as the exponent says: find out before it is computed.
        if left.bit_length() * right > _LARGEST:
            raise OverflowError
        return int(left**right)
    if sign == "*":
        return _bounded(left * right)
    # Whole quotients stay exact beyond the 53 bits of a float.
    exact = isinstance(left, int) and isinstance(right, int) and right != 0 and left % right == 0
    return left // right if exact else left / right


def _bounded(value: int | float) -> int | float:
    if isinstance(value, int) and value.bit_length() > _LARGEST:
        raise OverflowError
    return value


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Where every field comes from."""

    formulas: dict[str, Formula]
    constants: dict[str, Any]

    @property
    def given(self) -> set[str]:
        """Fields that something gives."""
        return {*self.formulas, *self.constants}


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
    for name, formula in result.formulas.items():
        twice = next((column for column in formula.columns if f"{column} (2)" in columns), None)
        if twice is not None:
            raise UsageError(f"The column '{twice}', of which {name} is made, appears more than once; rename one.")
    needs = [
        (shown, sources[0][0]) for shown, sources in _NEEDED if not any({*fields} <= result.given for fields in sources)
    ]
    if needs:
        # All at once, and with what there is to choose from.
        missing = [_missing(field, shown, result, seen) for shown, field in needs]
        text = "; ".join(missing)
        raise UsageError(f"{text.replace('nothing', 'Nothing', 1)}; {_listed(columns)}.")
    return result


def _missing(field: str, shown: str, planned: Plan, seen: Recognised) -> str:
    """That nothing gives a field, with the option that would."""
    if field in seen.rivals:
        return f"{shown} could be any of {', '.join(seen.rivals[field])}; choose with --map {shown}=COLUMN"
    hint = f"add --map {shown}=COLUMN"
    rest = planned.formulas.get("n_nonembedding")
    text = rest.text if rest else seen.proposed.get("n_nonembedding")
    if field in seen.proposed:
        hint = f"--map {shown}={seen.proposed[field]} looks right"
    elif field == "n_total" and text:
        both = f"--map n_params={text} --map n_nonembedding={text}"
        hint = f"if the parameters of embeddings are unknown, say so with {both}"
    return f"nothing is mapped to {shown}; {hint}"


def _listed(columns: Sequence[str]) -> str:
    """The first columns, in about a line of text."""
    shown: list[str] = []
    for column in columns:
        if sum(map(len, shown)) + len(column) > _SHOWN:
            break
        shown.append(column)
    shown = shown or [shorten(columns[0])]
    rest = len(columns) - len(shown)
    return f"its columns are {', '.join(shown)}" + (f" and {rest} more" if rest else "")


def in_units(planned: Plan, rows: Sequence[Mapping[str, Any]]) -> tuple[Plan, list[str]]:
    """The plan with columns that are in other units by their names converted, and a sentence for each.

    Raises UsageError with the factor where a name leaves two readings; see `qatplan.importing.units`.
    """
    formulas, remarks = dict(planned.formulas), []
    for field, formula in planned.formulas.items():
        if formula.computed:
            numbers = [leaf.value for leaf in formula.expression.leaves() if not isinstance(leaf.value, str)]
            found = unscaled(formula.columns, numbers) if field in COUNTS else None
            if found is not None:
                column, factor = found
                raise UsageError(
                    f"Column '{column}' in --map {field} is in units of {factor:g} by its name; write "
                    f"({quote(column)} * {factor:g}), or ({quote(column)} * 1) if it is not."
                )
            continue
        column = formula.columns[0]
        numbers_in = (float(v) for row in rows if (v := number_or_none(row.get(column))) is not None and abs(v) < 1e300)
        converted = conversion(column, field, numbers_in)
        if converted is not None:
            formulas[field] = parse_formula(converted.formula, (column,))
            remarks.append(f"{converted.reason}, so {field} is {converted.formula}")
    return replace(planned, formulas=formulas), remarks


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
            whole = next((c for c in columns if c in text and quote(c) != c), None)
            hint = f"; quote one whose name has signs: {quote(whole)}" if whole else closest(leaf.value, columns)
            hint = hint or f"; {_listed(columns)}"
            raise expression.error(f"the source has no column '{leaf.value}'{hint}", leaf.position)
    formula = Formula(expression=expression)
    if not formula.columns:
        raise UsageError(f"--map '{text}' names no column; use --const for a constant.")
    return formula


def column_formula(column: str) -> Formula:
    """A column as it stands."""
    return Formula(expression=Expression(text=column, language=_LANGUAGE, tree=Leaf("name", column, 0)))
