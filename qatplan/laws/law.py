"""The interface that every law fulfils, and the common algebra behind it.

Every law here is a sum of positive terms, and the logarithm of each term is linear in its *fitting coordinates*
(log-amplitudes and exponents), apart from factors of `qatplan.laws.nonlinear`. With z_t the log of term t,

    prediction = sum_t exp(z_t),      z_t = constant_t + sum_j column_tj * coordinate_j

so the prediction, its jacobian and its hessian follow from the same small description (`Term`) of each law.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cache
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from qatplan.errors import UsageError
from qatplan.laws.inputs import Floats, Inputs
from qatplan.laws.nonlinear import Nonlinear

Coordinate = Literal["log", "linear", "inverse", "factor"]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One named parameter of a law."""

    symbol: str
    meaning: str
    unit: str
    lower: float
    """Smallest value the law allows."""
    upper: float
    """Largest value a fit may reach; a fit that ends there says so."""
    coordinate: Coordinate
    """How a fit sees the value v: log v, v itself, 1/v, or -exponent * log v (`factor`)."""
    start: tuple[float, float] = (np.nan, np.nan)
    """Where the multi-start design places first guesses; amplitudes have none, they follow by least squares."""
    exponent: str = ""
    """For `factor`: the name of the exponent that the factor carries in the law."""
    of: str = ""
    """The field of `Inputs` whose variation determines the parameter; none for amplitudes."""
    name: str = ""
    """That of the law's field which declares it."""

    @property
    def scales(self) -> bool:
        """Whether it is an amplitude: the scale of a term, which starts where the others put it."""
        return self.coordinate == "log" and not np.isfinite(self.start[0])


def amplitude(symbol: str, meaning: str, unit: str = "nats/token") -> Any:
    """Declares a field of a law: the scale of a term, which a fit sees in logs."""
    made = Parameter(symbol=symbol, meaning=meaning, unit=unit, lower=0.0, upper=np.inf, coordinate="log")
    return field(metadata={"parameter": made})


def exponent(
    symbol: str,
    meaning: str,
    start: tuple[float, float] = (0.1, 1.0),
    *,
    of: str,
    lower: float = 0.0,
    upper: float = 3.0,
    unit: str = "1",
    coordinate: Coordinate = "linear",
    exponent: str = "",
    default: Any = MISSING,
) -> Any:
    """Declares a field of a law: an exponent, a rate per bit, or another number that shapes a term."""
    made = Parameter(
        symbol=symbol, meaning=meaning, unit=unit, lower=lower, upper=upper, coordinate=coordinate, start=start,
        exponent=exponent, of=of,
    )  # fmt: skip
    return field(default=default, metadata={"parameter": made})


@dataclass(frozen=True, kw_only=True)
class Term:
    """One positive term of a law: log term = log amplitude + sum of columns times their coordinates."""

    name: str
    amplitude: str | None
    """Name of the parameter whose coordinate enters with a column of ones, if the term has one."""
    columns: Mapping[str, Floats]
    """For each further parameter, the factor (rows,) of its coordinate."""
    rows: NDArray[np.bool_]
    """Where the term is present; elsewhere it contributes nothing."""
    nonlinear: Nonlinear | None = None
    """A factor whose log is no column times a coordinate."""
    known: Floats | None = None
    """Log of a factor (rows,) without parameters; None for 1."""


def term_on(rows: NDArray[np.bool_], name: str, amplitude: str, **columns: Floats) -> Term:
    """A term present on some rows, whose columns may be anything elsewhere."""
    kept = {parameter: np.where(rows, column, 0.0) for parameter, column in columns.items()}
    return Term(name=name, amplitude=amplitude, columns=kept, rows=rows)


@dataclass(frozen=True, kw_only=True)
class Law(ABC):
    """A scaling law. Leaves are frozen dataclasses whose fields are the parameters, in natural units."""

    name: ClassVar[str]
    title: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str]
    evidence: ClassVar[str]
    domain: ClassVar[str]
    quantity: ClassVar[Literal["loss", "fraction"]] = "loss"
    sees_fraction: ClassVar[bool] = False
    sees_bits: ClassVar[bool] = True
    takes_rounded: ClassVar[bool] = False
    """Whether it is fitted on models that were rounded after training."""
    takes_controls: ClassVar[bool] = False
    """Whether it describes 16-bit rows: a second phase in full precision."""

    @classmethod
    def declared(cls) -> tuple[Parameter, ...]:
        """The parameters that the fields declare, in order."""
        return _declared(cls)

    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters in order, with units, bounds and meaning."""
        return self.declared()

    def params(self) -> dict[str, float]:
        """Parameter values by name, natural units."""
        return {p.name: float(getattr(self, p.name)) for p in self.declared()}

    def replace(self, values: Mapping[str, float]) -> Self:
        """The same law with the named parameters replaced."""
        return self.from_params({**self.params(), **values})

    @abstractmethod
    def every_term(self, x: Inputs) -> Sequence[Term]:
        """The terms at the given points, those whose amplitude is 0 among them."""

    def terms(self, x: Inputs) -> tuple[Term, ...]:
        """The terms at the given points. A term whose amplitude is 0 is left out."""
        values = self.params()
        return tuple(t for t in self.every_term(x) if t.amplitude is None or values[t.amplitude] != 0)

    def refusals(self, x: Inputs) -> list[tuple[NDArray[np.bool_], str]]:
        """(points outside the law's domain, the sentence why); of several sentences about a point the last counts."""
        return []

    def undetermined(self, x: Inputs) -> dict[str, str]:
        """Parameters that are fixed at 0 where a fit's rows are of too few kinds to speak of them: {name: why}."""
        return {}

    def outside(self, x: Inputs) -> list[str | None]:
        """Per point None, or the sentence why it is outside the law's domain."""
        reasons: list[str | None] = [None] * len(x)
        for mask, sentence in self.refusals(x):
            for i in np.flatnonzero(mask):
                reasons[i] = sentence
        return reasons

    def derived(self) -> dict[str, float]:
        """Quantities that follow from the parameters, by name."""
        return {}

    @classmethod
    def for_inputs(cls, x: Inputs) -> Self:
        """A law of the right shape for these points, with every term present; its values are placeholders."""
        return cls.from_params({p.name: 1.0 for p in cls.declared()})

    @classmethod
    def from_params(cls, values: Mapping[str, float]) -> Self:
        """Build from parameters by name, in any order. Raises UsageError for a missing or unknown name."""
        check_names(cls.name, [p.name for p in cls.declared()], values)
        return cls(**{name: float(value) for name, value in values.items()})

    def predict(self, x: Inputs) -> Floats:
        """The law's value at each point: nats per token, or the QAT fraction for a fraction law."""
        values: Floats = predict_many(self, self.coordinates()[None, :], x)[0]
        return values

    def components(self, x: Inputs) -> dict[str, Floats]:
        """Each term's contribution at each point, by the term's name."""
        theta = {p.name: value[None] for p, value in zip(self.parameters(), self.coordinates(), strict=True)}
        return {t.name: np.where(t.rows, np.exp(_log_term(t, theta)), 0.0) for t in self.terms(x)}

    def coordinates(self) -> Floats:
        """The parameters as a fit sees them (see `Parameter.coordinate`). An amplitude of 0 becomes -inf."""
        vector: Floats = coordinates(self.parameters(), np.array([list(self.params().values())]))[0]
        return vector

    def from_coordinates(self, vector: Sequence[float] | Floats) -> Self:
        """The law of this shape at the given fitting coordinates."""
        return self.replace(natural(self.parameters(), np.asarray(vector, dtype=np.float64)))


@cache
def _declared(law: type[Law]) -> tuple[Parameter, ...]:
    known = {f.name: f.metadata["parameter"] for f in fields(law) if "parameter" in f.metadata}
    return tuple(replace(parameter, name=name) for name, parameter in known.items())


def coordinates(parameters: Sequence[Parameter], values: Floats) -> Floats:
    """(draws, parameters) fitting coordinates of natural values (draws, parameters)."""
    theta = np.array(values, dtype=np.float64)
    position = {p.name: i for i, p in enumerate(parameters)}
    with np.errstate(divide="ignore", invalid="ignore"):
        for i, p in enumerate(parameters):
            if p.coordinate == "log":
                theta[:, i] = np.log(values[:, i])
            elif p.coordinate == "inverse":
                theta[:, i] = 1.0 / values[:, i]
            elif p.coordinate == "factor":
                theta[:, i] = -values[:, position[p.exponent]] * np.log(values[:, i])
    return theta


def natural(parameters: Sequence[Parameter], vector: Floats) -> dict[str, float]:
    """Natural values by name from a vector of fitting coordinates."""
    position = {p.name: i for i, p in enumerate(parameters)}
    values: dict[str, float] = {}
    for i, p in enumerate(parameters):
        v = float(vector[i])
        if p.coordinate == "log":
            v = float(np.exp(min(v, 700.0)))
        elif p.coordinate == "inverse":
            v = 1.0 / v if v else np.inf
        elif p.coordinate == "factor":
            exponent = float(vector[position[p.exponent]])
            v = float(np.exp(np.clip(-v / exponent, -700.0, 700.0))) if exponent else np.nan
        values[p.name] = v
    return values


def _log_term(term: Term, theta: Mapping[str, Floats]) -> Floats:
    """Log of a term at coordinates by name, of any shapes that broadcast with (rows,)."""
    total: Floats = np.zeros(term.rows.shape[0]) if term.known is None else term.known
    if term.amplitude is not None:
        total = total + theta[term.amplitude]
    for name, column in term.columns.items():
        total = total + _times(theta[name], column)
    if (factor := term.nonlinear) is not None:
        column = factor.column([theta[rate] for rate in factor.rates])
        total = total + (column if factor.exponent is None else theta[factor.exponent] * column)
    return total


def _times(coordinate: Floats, column: Floats) -> Floats:
    """Product in which an exponent of 0 wins over an infinite logarithm: x ** 0 = 1 also at x = 0."""
    with np.errstate(invalid="ignore"):
        product: Floats = coordinate * column
    infinite = np.isinf(column)
    return np.where(infinite & (coordinate == 0), 0.0, product) if np.any(infinite) else product


def predict_many(law: Law, theta: Floats, x: Inputs) -> Floats:
    """(draws, rows) predictions of a law's shape at many coordinate vectors theta (draws, parameters)."""
    return _predicted(law, theta.T[:, :, None], x, np.zeros((len(theta), len(x))))


def predict_rows(law: Law, theta: Floats, x: Inputs) -> Floats:
    """(rows,): prediction of point i at its own fitting coordinates theta[i], theta (rows, parameters)."""
    return _predicted(law, np.ascontiguousarray(theta.T), x, np.zeros(len(x)))


def _predicted(law: Law, theta: Floats, x: Inputs, total: Floats) -> Floats:
    by_name = dict(zip((p.name for p in law.parameters()), theta, strict=True))
    for term in law.terms(x):
        with np.errstate(over="ignore"):
            total += np.where(term.rows, np.exp(np.where(term.rows, _log_term(term, by_name), -np.inf)), 0.0)
    return total


def check_names(law_name: str, allowed: Sequence[str], values: Mapping[str, float]) -> None:
    """Raise UsageError unless `values` names exactly the allowed parameters."""
    missing = [n for n in allowed if n not in values]
    unknown = [n for n in values if n not in allowed]
    if missing or unknown:
        what = f"lacks {', '.join(missing)}" if missing else f"has no parameter {', '.join(unknown)}"
        raise UsageError(f"law {law_name} {what}; its parameters are {', '.join(allowed)}")
