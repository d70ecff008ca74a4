"""A formula, read: its names, the sum of positive terms that it is, and where its parameters stand.

A law is fitted as a sum of positive terms. Which parts of a formula are such terms follows from the domains of its
parameters, by interval arithmetic; a formula that is no such sum is one term as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from qatplan.errors import UsageError, closest
from qatplan.expressions import Expression, Language, Leaf, Node, Operation, parse
from qatplan.laws.fit_parts import Pair
from qatplan.laws.law import Parameter
from qatplan.laws.own.definition import Declared, Definition
from qatplan.laws.own.quantities import CONDITIONS, QUANTITIES

FUNCTIONS = ("exp", "log", "ln", "log2", "sqrt", "min", "max")
_LANGUAGE = Language(
    option="formula", operand="a quantity, parameter or number", signs=("+", "-", "*", "/", "^", "**", "(", ")", ","),
    functions=FUNCTIONS, of_two=("min", "max"),
)  # fmt: skip
_STRENGTH = {"+": 1, "-": 1, "*": 2, "/": 2, "**": 4}
_BEFORE = 3  # how strongly a sign before a value binds
_HALF = Leaf("number", 0.5, 0)


@dataclass(frozen=True, kw_only=True)
class Factor:
    """A factor of a term: its log is sign * the powers * log(base), or * the base itself where it is `exp` of it."""

    sign: float
    powers: tuple[Node, ...]
    base: Node
    plain: bool = False


@dataclass(frozen=True, kw_only=True)
class Summand:
    """A term of the law."""

    text: str
    amplitude: str | None
    """The parameter that scales it."""
    conditions: tuple[str, ...]
    """Where they do not all hold the term is absent."""
    factors: tuple[Factor, ...]
    """All others."""
    parameters: tuple[str, ...]
    """Those of `factors`."""


@dataclass(frozen=True, kw_only=True)
class Formula:
    """A formula and its parameters, as a fit needs them."""

    tree: Node
    parameters: tuple[Parameter, ...]
    quantities: tuple[str, ...]
    """The quantities and conditions that it names."""
    summands: tuple[Summand, ...]

    @staticmethod
    def of(definition: Definition) -> Formula:
        """The formula of a law. Raises UsageError for what it does not understand, and for a parameter it lacks."""
        declared = {p.name: p for p in definition.parameters}
        for name in declared:
            if name in QUANTITIES or name in CONDITIONS or name in FUNCTIONS:
                raise UsageError(f"parameter {name} has the name of a quantity, condition or function of the formula")
        expression = parse(definition.formula, _LANGUAGE)
        _check_names(expression, declared)
        used = [str(leaf.value) for leaf in expression.leaves() if leaf.kind == "name"]
        if unused := [name for name in declared if name not in used]:
            raise UsageError(f"parameter {unused[0]} does not occur in the formula")
        parts = _split(expression.tree, declared, used)
        scales = {part.amplitude for part in parts}
        return Formula(
            tree=expression.tree,
            parameters=tuple(_parameter(p, p.name in scales, expression.tree) for p in definition.parameters),
            quantities=tuple(name for name in (*QUANTITIES, *CONDITIONS) if name in used),
            summands=parts,
        )


def names_in(node: Node) -> set[str]:
    """The names in a part of a formula."""
    if isinstance(node, Leaf):
        return {str(node.value)} if node.kind == "name" else set()
    return set().union(*(names_in(part) for part in node.parts))


def text_of(node: Node, strength: int = 0) -> str:
    """A part of a formula as it would be written, in brackets where it binds less than `strength`."""
    if isinstance(node, Leaf):
        return f"{node.value:g}" if isinstance(node.value, float) else str(node.value)
    sign, parts = node.sign, node.parts
    if sign in FUNCTIONS:
        return f"{sign}({', '.join(map(text_of, parts))})"
    if len(parts) == 1:
        own, made = _BEFORE, f"{sign}{text_of(parts[0], _BEFORE)}"
    else:
        own = _STRENGTH[sign]
        left, right = (own + 1, own) if sign == "**" else (own, own + 1)
        sign = {"**": "^", "+": " + ", "-": " - "}.get(sign, sign)
        made = f"{text_of(parts[0], left)}{sign}{text_of(parts[1], right)}"
    return f"({made})" if own < strength else made


def _check_names(expression: Expression, declared: Mapping[str, Declared]) -> None:
    known = (*declared, *QUANTITIES, *CONDITIONS)
    for leaf in expression.leaves():
        if leaf.kind == "text":
            raise expression.error("a text has no place in a formula", leaf.position)
        if leaf.kind == "name" and leaf.value not in known:
            hint = closest(str(leaf.value), known)
            hint = hint or f"; quantities are {', '.join((*QUANTITIES, *CONDITIONS))}, the rest are parameters"
            raise expression.error(f"'{leaf.value}' is no parameter and no quantity{hint}", leaf.position)
    for node in _operations(expression.tree):
        if node.sign in ("min", "max") and names_in(node) & declared.keys():
            what = f"{node.sign} takes no parameters, because a fit needs derivatives that have no jumps"
            raise expression.error(what, node.position)


def _operations(node: Node) -> Iterator[Operation]:
    if isinstance(node, Operation):
        yield node
        for part in node.parts:
            yield from _operations(part)


def _split(tree: Node, declared: Mapping[str, Declared], used: list[str]) -> tuple[Summand, ...]:
    """The positive terms whose sum a formula is, or the whole formula as one."""
    try:
        return tuple(_summand(part, declared, used) for part in _added(tree))
    except _NotPositive:
        parameters = tuple(name for name in declared if name in used)
        whole = Factor(sign=1.0, powers=(), base=tree)
        return (Summand(text="formula", amplitude=None, conditions=(), factors=(whole,), parameters=parameters),)


class _NotPositive(Exception):
    """A formula is no sum of terms that are positive whatever its parameters are."""


def _added(node: Node) -> Iterator[Node]:
    if not (isinstance(node, Operation) and node.sign in ("+", "-")):
        yield node
    elif node.sign == "-":
        raise _NotPositive
    else:
        for part in node.parts:
            yield from _added(part)


def _summand(node: Node, declared: Mapping[str, Declared], used: list[str]) -> Summand:
    amplitude, conditions, rest = None, list[str](), list[Factor]()
    for factor in _factors(node, 1.0, ()):
        base = factor.base
        name = str(base.value) if isinstance(base, Leaf) and base.kind == "name" else ""
        bare = factor.sign > 0 and not factor.powers and not factor.plain
        if bare and name in CONDITIONS:
            conditions.append(name)
            continue
        if not factor.plain and not _interval(base, declared)[0] >= 0:
            raise _NotPositive
        scale = bare and name in declared and used.count(name) == 1 and declared[name].scale != "linear"
        if amplitude is None and scale:
            amplitude = name
        else:
            rest.append(factor)
    inside = set().union(*(names_in(part) for f in rest for part in (f.base, *f.powers)))
    return Summand(
        text=text_of(node),
        amplitude=amplitude,
        conditions=tuple(conditions),
        factors=tuple(rest),
        parameters=tuple(name for name in declared if name in inside),
    )


def _factors(node: Node, sign: float, powers: tuple[Node, ...]) -> Iterator[Factor]:
    """The factors of a product, however deep they stand in quotients and powers."""
    parts = node.parts if isinstance(node, Operation) else ()
    match node.sign if isinstance(node, Operation) else "":
        case "*":
            for part in parts:
                yield from _factors(part, sign, powers)
        case "/":
            yield from _factors(parts[0], sign, powers)
            yield from _factors(parts[1], -sign, powers)
        case "**":
            yield from _factors(parts[0], sign, (*powers, parts[1]))
        case "sqrt":
            yield from _factors(parts[0], sign, (*powers, _HALF))
        case "exp":
            yield Factor(sign=sign, powers=powers, base=parts[0], plain=True)
        case _:
            yield Factor(sign=sign, powers=powers, base=node)


def _interval(node: Node, declared: Mapping[str, Declared]) -> Pair:
    """Between which values a part of the formula lies, whatever the run and the parameters are."""
    if isinstance(node, Leaf):
        name = str(node.value)
        if node.kind == "number":
            return float(node.value), float(node.value)
        if name in CONDITIONS:
            return 0.0, 1.0
        return declared[name].domain if name in declared else (QUANTITIES[name].low, QUANTITIES[name].high)
    ends = [_interval(part, declared) for part in node.parts]
    (low, high), (low_2, high_2) = ends[0], ends[-1]
    with np.errstate(all="ignore"):
        match node.sign:
            case "+" if len(ends) == 2:
                return low + low_2, high + high_2
            case "-" if len(ends) == 2:
                return low - high_2, high - low_2
            case "-":
                return -high, -low
            case "*":
                return _around(a * b if a and b else 0.0 for a in ends[0] for b in ends[1])
            case "/" if low_2 > 0 or high_2 < 0 or (low >= 0 and low_2 >= 0):
                return _around(_quotient(a, b) for a in ends[0] for b in ends[1])
            case "**" if low >= 0:
                return _around(float(np.float64(a) ** b) for a in ends[0] for b in ends[1])
            case "exp":
                return float(np.exp(low)), float(np.exp(high))
            case "log" | "ln" | "log2":
                return float(np.log(max(low, 0.0))), float(np.log(max(high, 0.0)))
            case "sqrt" if low >= 0:
                return math.sqrt(low), math.sqrt(high)
            case "min":
                return min(low, low_2), min(high, high_2)
            case "max":
                return max(low, low_2), max(high, high_2)
            case "+":
                return low, high
    return -math.inf, math.inf


def _quotient(a: float, b: float) -> float:
    return 0.0 if a == 0 or math.isinf(b) else math.copysign(math.inf, a) if b == 0 else a / b


def _around(values: Iterator[float]) -> Pair:
    found = list(values)
    return min(found), max(found)


def _parameter(own: Declared, scales: bool, tree: Node) -> Parameter:
    made = Parameter(
        name=own.name, symbol=own.symbol, meaning=own.meaning, unit=own.unit, lower=own.domain[0], upper=own.domain[1],
        coordinate="log" if scales or own.scale == "log" else "linear", of="" if scales else _follows(own.name, tree),
    )  # fmt: skip
    if scales:
        if own.domain[0] < 0:
            raise UsageError(f"{own}.domain begins at {own.domain[0]:g}; the scale of a term is from 0 on")
        return made
    start = own.start or own.domain
    if not math.isfinite(start[1] - start[0]) or (made.coordinate == "log" and start[0] <= 0):
        above = ", above 0" if made.coordinate == "log" else ""
        why = "only a factor before a whole term of the formula needs none"
        raise UsageError(f"{own}.start is missing: where a fit begins to look, such as [0.1, 1.0]{above}; {why}")
    return replace(made, start=start)


def _follows(name: str, tree: Node) -> str:
    """The field of `Inputs` in the smallest part of the formula that has the parameter and a quantity."""
    around = [node for node in _operations(tree) if name in names_in(node) and names_in(node) & QUANTITIES.keys()]
    beside = names_in(around[-1]) if around else set()
    if {"D_fp", "D_qat"} <= beside:
        return "d_total"
    return next((quantity.of for key, quantity in QUANTITIES.items() if key in beside), "")
