"""Factors of a term that are not powers: their log is an exponent times a column that depends on coordinates itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
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

    eta = sigmoid(sum of rates * their columns), so it lies between 0 and 1.
    """

    fraction: Floats
    """f, the share of the tokens in the second phase."""
    columns: Floats
    """(rows, rates) factors of the rates in the log-odds of eta."""

    def derivatives(self, values: Sequence[Floats]) -> tuple[Floats, list[Floats], list[list[Floats]]]:
        """The column -log(1 - f + eta f), with derivatives."""
        z = sum(value * self.columns[:, i] for i, value in enumerate(values))
        eta = 1.0 / (1.0 + np.exp(-np.clip(z, -500.0, 500.0)))
        worth = 1.0 - self.fraction * (1.0 - eta)
        rise = self.fraction * eta * (1.0 - eta) / worth
        # d/dz of log worth is `rise`, d2/dz2 is rise (1 - 2 eta - rise).
        bend = rise * (1.0 - 2.0 * eta - rise)
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


def log_kept(strength: Floats) -> Floats:
    """log(1 - exp(-strength)) with strength = bits * rate; 0 where bits is infinite (full precision)."""
    with np.errstate(divide="ignore"):
        result: Floats = np.log(-np.expm1(-strength))
    return result
