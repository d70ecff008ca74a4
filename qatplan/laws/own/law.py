"""A law of one's own: a class made from a formula, with all that a law written by hand has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from qatplan.laws.inputs import Floats, Inputs
from qatplan.laws.law import Law, Parameter, Term, check_names, natural
from qatplan.laws.own import jets
from qatplan.laws.own.definition import Definition
from qatplan.laws.own.evaluation import LogFactor, Rest, part_of, total, value
from qatplan.laws.own.formula import Formula, Summand
from qatplan.laws.own.quantities import CONDITIONS, QUANTITIES, SEES_BITS, SPLIT


@dataclass(frozen=True, kw_only=True)
class OwnLaw(Law):
    """A law whose formula is text; `law_of` makes a subclass of it for each definition."""

    values: tuple[float, ...]
    """Those of the parameters in order; not a number where a value is not known yet."""

    definition: ClassVar[Definition]
    read: ClassVar[Formula]
    evidence: ClassVar[str] = "own"

    @classmethod
    def declared(cls) -> tuple[Parameter, ...]:
        """The parameters that the definition declares, in order."""
        return cls.read.parameters

    def params(self) -> dict[str, float]:
        """Parameter values by name, natural units."""
        return dict(zip((p.name for p in self.declared()), self.values, strict=True))

    @classmethod
    def from_params(cls, values: Mapping[str, float]) -> Self:
        """Build from parameters by name, in any order. Raises UsageError for a missing or unknown name."""
        names = [p.name for p in cls.declared()]
        check_names(cls.name, names, values)
        return cls(values=tuple(float(values[name]) for name in names))

    @classmethod
    def for_inputs(cls, x: Inputs) -> Self:
        """The law with values that are not known yet."""
        return cls(values=(np.nan,) * len(cls.declared()))

    def every_term(self, x: Inputs) -> tuple[Term, ...]:
        """The terms of the formula, or the whole of it as one where it is no sum of positive terms."""
        return tuple(_term(summand, self.read, x) for summand in self.read.summands)

    def refusals(self, x: Inputs) -> list[tuple[NDArray[np.bool_], str]]:
        """Points where the formula has no finite value, or none that a loss can have."""
        known = self.params()
        probes = [natural(self.declared(), np.array([_probe(p, at) for p in self.declared()])) for at in _PROBES]
        given = [{name: v if np.isnan(known[name]) else known[name] for name, v in probe.items()} for probe in probes]
        unknown = any(np.isnan(v) for v in self.values)
        found = np.stack([_values(self.read, x, values) for values in (given if unknown else given[:1])])
        endless = np.array(~np.isfinite(found).all(axis=0))
        reasons = [(endless, "the formula has no finite value there")]
        if not unknown:
            reasons.append((np.asarray(found[0] <= 0), "the formula is not more than 0 there, which no loss is"))
        for name in self.read.quantities:
            if name in QUANTITIES and (why := QUANTITIES[name].lacking):
                reasons.append((np.isnan(found).any(axis=0) & np.isnan(QUANTITIES[name].at(x)), why.format(name)))
        return reasons

    def __reduce__(self) -> tuple[Callable[..., OwnLaw], tuple[Any, ...]]:
        return _restored, (self.definition, self.values)


@cache
def law_of(definition: Definition) -> type[OwnLaw]:
    """The law of a definition, one class for each. Raises UsageError for a definition that is no law."""
    read = Formula.of(definition)
    named = set(read.quantities)
    listed = ", ".join(name for name in read.quantities if name in QUANTITIES) or "nothing"
    return type(
        "OwnLaw",
        (OwnLaw,),
        {
            "__doc__": definition.formula,
            "definition": definition,
            "read": read,
            "name": definition.name,
            "title": definition.title,
            "formula": f"L = {definition.formula.replace('**', '^')}",
            "source": definition.source,
            "domain": f"runs for which the formula of {listed} is finite",
            "sees_fraction": bool(named & SPLIT),
            "sees_bits": bool(named & SEES_BITS),
            "takes_rounded": "rounded" in named,
        },
    )


def _restored(definition: Definition, values: tuple[float, ...]) -> OwnLaw:
    return law_of(definition)(values=values)


_PROBES = (0.5, 0.3, 0.7)
"""Where in the range in which a fit begins parameters are taken to be, before they are known."""


def _probe(p: Parameter, share: float) -> float:
    """A parameter's fitting coordinate there."""
    if p.scales:
        return 0.0
    low, high = (float(_coordinate(p, end)) for end in p.start)
    return low + share * (high - low)


def _values(read: Formula, x: Inputs, values: Mapping[str, float]) -> Floats:
    """(rows,) the formula itself."""
    with np.errstate(all="ignore"):
        found = value(part_of(read.tree, x), {name: jets.Jet(np.array(v)) for name, v in values.items()}).value
    return np.broadcast_to(found, (len(x),))


def _term(summand: Summand, read: Formula, x: Inputs) -> Term:
    """A summand in fitting coordinates: a straight line in them, and what that leaves."""
    with np.errstate(all="ignore"):
        rows = np.ones(len(x), dtype=np.bool_)
        for condition in summand.conditions:
            rows &= CONDITIONS[condition][1](x)
        factors = _at(summand, x, rows)
        parameters = [p for p in read.parameters if p.name in summand.parameters]
        names, logs = [p.name for p in parameters], frozenset(p.name for p in parameters if p.coordinate == "log")
        probes = [[np.array([_probe(p, at)]) for p in parameters] for at in _PROBES]
        if factors and np.isneginf(total(factors, probes[0], names, logs).value).any():
            gone = [np.isneginf(total(factors, probe, names, logs).value) for probe in probes]
            rows = rows & ~np.logical_and.reduce(gone)
            factors = _at(summand, x, rows)
        columns: dict[str, Floats] = {}
        known, bent = np.zeros(len(x)), list[LogFactor]()
        for factor in factors:
            # In coordinates that all are 0, a straight line is what does not depend on them.
            jet = total([factor], [np.zeros(1)] * len(names), names, logs)
            if jet.second:
                bent.append(factor)
                continue
            slopes = {names[i]: _full(d, x) for i, d in jet.first.items()}
            endless = reduce(np.logical_or, map(np.isinf, slopes.values()), np.zeros(len(x), dtype=np.bool_))
            known += np.where(endless, 0.0, _full(jet.value, x))
            for name, slope in slopes.items():
                columns[name] = columns[name] + slope if name in columns else slope
        rest = None
        if bent:
            jet = total(bent, probes[0], names, logs)
            inside = sorted(jet.first)
            line = np.stack([_full(jet.first[i], x) for i in inside], axis=1)
            sound = np.isfinite(jet.value) & np.isfinite(line).all(axis=1)
            line = np.where(sound[:, None], line, 0.0)
            level = np.where(sound, jet.value, 0.0) - line @ np.concatenate([probes[0][i] for i in inside])
            rates = tuple(names[i] for i in inside)
            rest = Rest(exponent=None, rates=rates, factors=tuple(bent), logs=logs, level=level, slopes=line)
            known = known + level
            for name, slope in zip(rates, line.T, strict=True):
                columns[name] = columns[name] + slope if name in columns else slope
    return Term(
        name=summand.text,
        amplitude=summand.amplitude,
        columns={name: np.where(rows, column, 0.0) for name, column in columns.items()},
        rows=rows,
        nonlinear=rest,
        known=np.where(rows, known, 0.0) if known.any() else None,
    )


def _at(summand: Summand, x: Inputs, rows: NDArray[np.bool_]) -> list[LogFactor]:
    """The factors, at runs where the term is present; the others stand in as one of these."""
    if not rows.all() and rows.any():
        x = x.take(np.where(rows, np.arange(len(x)), int(np.argmax(rows))))
    return [LogFactor.of(factor, x) for factor in summand.factors]


def _coordinate(p: Parameter, natural: float) -> float:
    return float(np.log(natural)) if p.coordinate == "log" else natural


def _full(values: Floats, x: Inputs) -> Floats:
    return np.broadcast_to(np.asarray(values, dtype=np.float64), (len(x),))
