"""A law with the draws of its parameters: values, optimal fractions and losses of new runs, each with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qatplan.errors import UsageError
from qatplan.laws.inputs import Inputs
from qatplan.laws.law import Law, predict_many
from qatplan.laws.optimum import Optimum, optimal_fraction
from qatplan.laws.quantiles import quantiles, quantiles_of_runs

FloatArray = NDArray[np.float64]

NO_DRAWS = "this fit has no bootstrap draws, so it gives no intervals; fit again with --bootstrap 1000"


@dataclass(frozen=True, kw_only=True)
class Band:
    """A value per point and the central share of the draws around it; without draws `low` and `high` are None."""

    value: FloatArray
    low: FloatArray | None
    high: FloatArray | None


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A law with the draws of its fitting coordinates (draws, parameters), or none."""

    law: Law
    draws: FloatArray | None = None
    level: float = 0.95
    noise: float = math.nan
    """Standard deviation of log losses of single runs about the law."""

    @property
    def caption(self) -> str:
        """One sentence on what lines and bands are."""
        band = f"; bands: central {self.level:.0%} of {len(self.draws)} draws" if self.draws is not None else ""
        return f"Lines: fitted law {self.law.name}{band}."

    def drawn(self, x: Inputs) -> FloatArray:
        """(draws, points) values of the law. Raises UsageError without draws."""
        if self.draws is None:
            raise UsageError(NO_DRAWS)
        return predict_many(self.law, self.draws, x)

    def interval(self, drawn: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(low, high): the central `level` of values (draws, ...), each computed from one draw."""
        low, high = quantiles(drawn, self._tails())
        return low, high

    def interval_of_runs(self, drawn: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(low, high) of the loss of one new run, which scatters about the mean losses (draws, ...) by `noise`.

        Raises UsageError for a fit that does not know its noise.
        """
        if not math.isfinite(self.noise):
            raise UsageError("this fit records no noise, so it gives no prediction interval")
        low, high = quantiles_of_runs(drawn, self.noise, self._tails())
        return low, high

    def loss(self, x: Inputs) -> Band:
        """Predicted loss at each point, nats per token; not a number where the law is singular.

        Raises UsageError for a law that predicts no loss.
        """
        if self.law.quantity != "loss":
            raise UsageError(f"law {self.law.name} predicts a QAT fraction and no loss; this figure needs a loss law.")
        return self.value(x)

    def value(self, x: Inputs) -> Band:
        """The law's value at each point, a loss or a fraction, with its band."""
        return self._band(self.law.predict(x), None if self.draws is None else self.drawn(x))

    def optimum(self, *, n: ArrayLike, d_total: ArrayLike, bits: ArrayLike) -> tuple[Optimum, Band]:
        """The law's optimal fraction, exact, and with its band over the draws."""
        best = optimal_fraction(self.law, n=n, d_total=d_total, bits=bits)
        if self.draws is None:
            return best, self._band(best.fraction, None)
        drawn = optimal_fraction(self.law, n=n, d_total=d_total, bits=bits, draws=self.draws)
        return best, self._band(best.fraction, drawn.fraction)

    def _tails(self) -> tuple[float, float]:
        if not 0 < self.level < 1:
            raise UsageError(f"level is {self.level:g}; allowed is between 0 and 1")
        return 0.5 * (1.0 - self.level), 0.5 * (1.0 + self.level)

    def _band(self, value: FloatArray, drawn: FloatArray | None) -> Band:
        low, high = (None, None) if drawn is None else map(_finite, self.interval(_finite(drawn)))
        return Band(value=_finite(value), low=low, high=high)


@dataclass(frozen=True, kw_only=True)
class FittedCurve:
    """A law's loss against the fraction for one size, budget and bit width."""

    fraction: FloatArray
    loss: Band
    optimum: float | None
    """Fraction of lowest loss; None where the law does not see the fraction, or falls to an end."""
    optimum_loss: float | None


def fitted_curve(predictor: Predictor, n: float, d_total: float, bits: float, fraction: FloatArray) -> FittedCurve:
    """Loss of `predictor` at interior fractions, and where it is lowest."""
    loss = predictor.loss(Inputs.of(n=n, d_total=d_total, bits=bits, fraction=fraction))
    optimum = optimum_loss = None
    if predictor.law.sees_fraction:
        best, _ = Predictor(law=predictor.law).optimum(n=n, d_total=d_total, bits=bits)
        if best.interior[0]:
            optimum, optimum_loss = float(best.fraction[0]), float(best.loss[0])
    return FittedCurve(fraction=fraction, loss=loss, optimum=optimum, optimum_loss=optimum_loss)


def _finite(values: FloatArray) -> FloatArray:
    return np.where(np.isfinite(values), values, np.nan)
