"""Parts of a formula at given runs: what has no parameter becomes numbers once, the rest a function of parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Self

import numpy as np

from qatplan.expressions import Leaf, Node, Operation
from qatplan.laws.inputs import Floats, Inputs
from qatplan.laws.nonlinear import Nonlinear
from qatplan.laws.own import jets
from qatplan.laws.own.formula import Factor
from qatplan.laws.own.jets import Jet
from qatplan.laws.own.quantities import CONDITIONS, QUANTITIES

_LOG_2 = np.array(np.log(2.0))


@dataclass(frozen=True)
class Known:
    """Numbers: one, or one a run (rows,)."""

    values: Floats


@dataclass(frozen=True)
class Variable:
    """A parameter."""

    name: str


@dataclass(frozen=True)
class Applied:
    """A sign or function of one or two parts; `where` has a condition and a part."""

    sign: str
    parts: tuple[Part, ...]


Part = Known | Variable | Applied

_JETS: dict[str, Callable[..., Jet]] = {
    "+": lambda a, b=None: a if b is None else jets.add(a, b),
    "-": lambda a, b=None: jets.scale(a, np.array(-1.0)) if b is None else jets.subtract(a, b),
    "*": jets.multiply,
    "/": jets.divide,
    "**": jets.power,
    "exp": jets.exp,
    "log": jets.log,
    "ln": jets.log,
    "log2": lambda a: jets.scale(jets.log(a), 1.0 / _LOG_2),
    "sqrt": lambda a: jets.power(a, Jet(np.array(0.5))),
    "min": lambda a, b: Jet(np.minimum(a.value, b.value)),
    "max": lambda a, b: Jet(np.maximum(a.value, b.value)),
    "where": lambda a, b: jets.where(a.value, b),
}


def part_of(node: Node, x: Inputs) -> Part:
    """A part of a formula at the given runs."""
    if isinstance(node, Leaf):
        name = str(node.value)
        if node.kind == "number":
            return Known(np.array(float(node.value)))
        if name in CONDITIONS:
            return Known(CONDITIONS[name][1](x).astype(np.float64))
        return Known(QUANTITIES[name].at(x)) if name in QUANTITIES else Variable(name)
    factors = list(_product(node, inverse=False))
    conditions = [part_of(n, x) for n, inverse in factors if not inverse and _is_condition(n)]
    if not conditions:
        return _applied(node.sign, [part_of(part, x) for part in node.parts])
    rest: Part = Known(np.array(1.0))
    for other, inverse in factors:
        if inverse or not _is_condition(other):
            rest = _applied("/" if inverse else "*", [rest, part_of(other, x)])
    return _applied("where", [reduce(lambda a, b: _applied("*", [a, b]), conditions), rest])


def _product(node: Node, *, inverse: bool) -> list[tuple[Node, bool]]:
    """The factors of a product, and whether each divides."""
    if isinstance(node, Operation) and node.sign in ("*", "/"):
        left, right = node.parts
        return _product(left, inverse=inverse) + _product(right, inverse=inverse != (node.sign == "/"))
    if isinstance(node, Operation) and node.sign == "-" and len(node.parts) == 1:
        return [(Leaf("number", -1.0, node.position), False), *_product(node.parts[0], inverse=inverse)]
    return [(node, inverse)]


def _is_condition(node: Node) -> bool:
    return isinstance(node, Leaf) and node.kind == "name" and node.value in CONDITIONS


def _applied(sign: str, parts: Sequence[Part]) -> Part:
    made = Applied(sign, tuple(parts))
    return Known(value(made, {}).value) if all(isinstance(part, Known) for part in parts) else made


def value(part: Part, variables: Mapping[str, Jet]) -> Jet:
    """The value of a part, with derivatives, where those of its parameters are known."""
    if isinstance(part, Known):
        return Jet(part.values)
    if isinstance(part, Variable):
        return variables[part.name]
    return _JETS[part.sign](*(value(each, variables) for each in part.parts))


def _taken(part: Part, rows: Any) -> Part:
    if isinstance(part, Known):
        return Known(part.values[rows]) if np.ndim(part.values) else part
    return part if isinstance(part, Variable) else Applied(part.sign, tuple(_taken(each, rows) for each in part.parts))


@dataclass(frozen=True)
class LogFactor:
    """The log of a factor of a term, at given runs."""

    sign: float
    powers: tuple[Part, ...]
    base: Part
    plain: bool

    @staticmethod
    def of(factor: Factor, x: Inputs) -> LogFactor:
        """The factor at `x`."""
        return LogFactor(
            factor.sign, tuple(part_of(p, x) for p in factor.powers), part_of(factor.base, x), factor.plain
        )

    def at(self, coordinates: Mapping[str, Jet], logs: frozenset[str]) -> Jet:
        """Its value at fitting coordinates; those of `logs` are logs of parameters."""
        variables = {name: jets.exp(jet) if name in logs else jet for name, jet in coordinates.items()}
        if not self.plain and isinstance(self.base, Variable) and self.base.name in logs:
            made = coordinates[self.base.name]
        else:
            made = value(self.base, variables)
            made = made if self.plain else jets.log(made)
        for power in reversed(self.powers):
            made = jets.multiply(value(power, variables), made)
        return jets.scale(made, np.array(self.sign))

    def take(self, rows: Any) -> LogFactor:
        """The same at some of the runs."""
        return replace(self, powers=tuple(_taken(p, rows) for p in self.powers), base=_taken(self.base, rows))


def total(factors: Sequence[LogFactor], values: Sequence[Floats], names: Sequence[str], logs: frozenset[str]) -> Jet:
    """The sum of logs of factors, with derivatives by the position of each name."""
    with np.errstate(all="ignore"):
        at = {name: jets.variable(v, i) for i, (name, v) in enumerate(zip(names, values, strict=True))}
        return reduce(jets.add, (factor.at(at, logs) for factor in factors))


@dataclass(frozen=True, kw_only=True)
class Rest(Nonlinear):
    """What the columns of a term leave of the log of its factors: that log without a straight line in the rates."""

    factors: tuple[LogFactor, ...]
    logs: frozenset[str]
    level: Floats
    """(rows,) the line where all rates are 0."""
    slopes: Floats
    """(rows, rates)."""

    def column(self, values: Sequence[Floats]) -> Floats:
        """The column alone."""
        with np.errstate(all="ignore"):
            at = {name: Jet(v) for name, v in zip(self.rates, values, strict=True)}
            made: Floats = reduce(np.add, (factor.at(at, self.logs).value for factor in self.factors)) - self.level
            for i, v in enumerate(values):
                made = made - v * self.slopes[:, i]
        return made

    def derivatives(self, values: Sequence[Floats]) -> tuple[Floats, list[Floats], list[list[Floats]]]:
        """The column with its derivatives, by automatic differentiation."""
        jet, count = total(self.factors, values, self.rates, self.logs), range(len(self.rates))
        column, nothing = jet.value - self.level, np.zeros((1, 1))
        for i, v in enumerate(values):
            column = column - v * self.slopes[:, i]
        first = [jet.first.get(i, nothing) - self.slopes[:, i] for i in count]
        return column, first, [[jet.second.get((min(i, j), max(i, j)), nothing) for j in count] for i in count]

    def take(self, rows: Any) -> Self:
        """The same at some of the runs."""
        if isinstance(rows, slice) and rows.indices(len(self.level)) == (0, len(self.level), 1):
            return self
        factors = tuple(factor.take(rows) for factor in self.factors)
        return replace(self, factors=factors, level=self.level[rows], slopes=self.slopes[rows])
