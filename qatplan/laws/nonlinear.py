"""Factors of a term that are not powers: their log is an exponent times a column that depends on coordinates itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np

from qatplan.laws.inputs import Floats


@dataclass(frozen=True, kw_only=True)
class Nonlinear(ABC):
    """log factor = coordinate of `exponent` * column(coordinates of `rates`). Array fields have a value a row."""

    exponent: str | None
    """None where the factor is exp(column) itself."""
    rates: tuple[str, ...]

    @abstractmethod
    def derivatives(self, values: Sequence[Floats]) -> tuple[Floats, list[Floats], list[list[Floats]]]:
        """(column, first, second derivatives) in the rates, each (.., rows); values (.., 1) in the order of `rates`."""

    def column(self, values: Sequence[Floats]) -> Floats:
        """The column alone."""
        return self.derivatives(values)[0]

    def take(self, rows: Any) -> Self:
        """The same factor on some of its rows."""
        arrays = {f.name: v[rows] for f in fields(self) if isinstance(v := getattr(self, f.name), np.ndarray)}
        return replace(self, **arrays)


@dataclass(frozen=True, kw_only=True)
class Saturation(Nonlinear):
    """The factor (1 - exp(-bits * rate)) ** -exponent of one rate; arXiv 2411.04330, equation for N_eff."""

    bits: Floats
    """Infinite where the factor is 1."""

    def column(self, values: Sequence[Floats]) -> Floats:
        """-log(1 - exp(-bits * rate))."""
        return -log_kept(values[0] * self.bits)

    def derivatives(self, values: Sequence[Floats]) -> tuple[Floats, list[Floats], list[list[Floats]]]:
        """The column with its first and second derivative; 0 at infinite bits."""
        known = np.isfinite(self.bits)
        bits = np.where(known, self.bits, 0.0)
        strength = values[0] * np.where(known, bits, 1.0)
        slope = np.where(known, bits / np.expm1(strength), 0.0)
        return np.where(known, -log_kept(strength), 0.0), [-slope], [[slope * (slope + bits)]]


@dataclass(frozen=True, kw_only=True)
class TokenWorth(Nonlinear):
    """The factor (1 - f + eta f) ** -exponent: tokens of the second phase are worth eta of the first.

    ln eta = sum of rates * their columns.
    """

    fraction: Floats
    """f, the share of the tokens in the second phase."""
    columns: Floats
    """(rows, rates) factors of the rates in ln eta."""

    def derivatives(self, values: Sequence[Floats]) -> tuple[Floats, list[Floats], list[list[Floats]]]:
        """The column -log(1 - f + eta f), with derivatives."""
        z = sum(value * self.columns[:, i] for i, value in enumerate(values))
        second_phase = self.fraction * np.exp(np.clip(z, -500.0, 500.0))
        worth = 1.0 - self.fraction + second_phase
        rise = second_phase / worth
        bend = rise * (1.0 - rise)
        first = [-rise * self.columns[:, i] for i in range(len(values))]
        second = [
            [-bend * self.columns[:, i] * self.columns[:, j] for j in range(len(values))] for i in range(len(values))
        ]
        return -np.log(worth), first, second


@dataclass(frozen=True, kw_only=True)
class Logistic(Nonlinear):
    """The factor 1 / (1 + exp(-u)), whose log-odds u are the sum of rates times their columns."""

    columns: Floats
    """(rows, rates)."""

    def derivatives(self, values: Sequence[Floats]) -> tuple[Floats, list[Floats], list[list[Floats]]]:
        """The column -ln(1 + exp(-u)), with derivatives."""
        u = sum(value * self.columns[:, i] for i, value in enumerate(values))
        share, columns = np.exp(-np.logaddexp(0.0, u)), list(self.columns.T)
        bend = -share * (1.0 - share)
        return -np.logaddexp(0.0, -u), [share * a for a in columns], [[bend * a * b for b in columns] for a in columns]


@dataclass(frozen=True, kw_only=True)
class Join(Nonlinear):
    """The factor ((x + x0) / x_ref) ** -exponent with x0 = exp(rate): a power of x that stays finite at x = 0."""

    x: Floats
    reference: Floats

    def derivatives(self, values: Sequence[Floats]) -> tuple[Floats, list[Floats], list[list[Floats]]]:
        """The column -log((x + x0) / x_ref), with derivatives in log x0."""
        start = np.exp(np.clip(values[0], -500.0, 500.0))
        share = start / (self.x + start)
        return -np.log((self.x + start) / self.reference), [-share], [[-share * (1.0 - share)]]


@dataclass(frozen=True, kw_only=True)
class Saturating(Nonlinear):
    """The factor ((1 + s) / (1 + s q)) ** exponent of a rate s >= 0, 1 at q = 1: q times it is at most 1 + 1/s."""

    q: Floats

    def derivatives(self, values: Sequence[Floats]) -> tuple[Floats, list[Floats], list[list[Floats]]]:
        """The column log((1 + s) / (1 + s q)), with derivatives in s."""
        s = values[0]
        at_1, at_q = 1.0 / (1.0 + s), self.q / (1.0 + s * self.q)
        return np.log1p(s) - np.log1p(s * self.q), [at_1 - at_q], [[at_q**2 - at_1**2]]


@dataclass(frozen=True, kw_only=True)
class Held(Nonlinear):
    """A factor some of whose rates stay as they are; `rates` names the others."""

    factor: Nonlinear
    held: Mapping[str, float]

    @staticmethod
    def of(factor: Nonlinear, held: Mapping[str, float]) -> Nonlinear:
        """The factor in the rates that `held` does not name."""
        free = tuple(rate for rate in factor.rates if rate not in held)
        return factor if free == factor.rates else Held(exponent=factor.exponent, rates=free, factor=factor, held=held)

    def derivatives(self, values: Sequence[Floats]) -> tuple[Floats, list[Floats], list[list[Floats]]]:
        """Those of the factor, in the free rates alone."""
        given = dict(zip(self.rates, values, strict=True))
        every = [given[rate] if rate in given else np.array([self.held[rate]]) for rate in self.factor.rates]
        column, first, second = self.factor.derivatives(every)
        free = [i for i, rate in enumerate(self.factor.rates) if rate in given]
        return column, [first[i] for i in free], [[second[i][j] for j in free] for i in free]

    def take(self, rows: Any) -> Self:
        """The same factor on some of its rows."""
        return replace(self, factor=self.factor.take(rows))


def log_kept(strength: Floats) -> Floats:
    """log(1 - exp(-strength)) with strength = bits * rate; 0 where bits is infinite (full precision)."""
    with np.errstate(divide="ignore"):
        result: Floats = np.log(-np.expm1(-strength))
    return result
