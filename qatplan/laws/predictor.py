"""What a figure asks of a fitted law: values with a band, and optimal fractions with a band, over the fit's draws."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qatplan.errors import UsageError
from qatplan.laws.inputs import Inputs
from qatplan.laws.law import Law, predict_many
from qatplan.laws.optimum import Optimum, optimal_fraction
from qatplan.laws.quantiles import quantiles, quantiles_of_runs

if TYPE_CHECKING:
    from qatplan.laws.fitted import FittedLaw

FloatArray = NDArray[np.float64]


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

    @classmethod
    def of(cls, fitted: FittedLaw) -> Predictor:
        """The predictor of a fit: its law, and its draws in fitting coordinates where it has any."""
        drawn = None if fitted.draws is None or len(fitted.draws) == 0 else fitted.draw_coordinates()
        return cls(law=fitted.law, draws=drawn, level=fitted.level, noise=fitted.noise)

    @property
    def sees_fraction(self) -> bool:
        """Whether the law's loss depends on the split of the tokens."""
        return self.law.quantity == "loss" and self.law.sees_fraction

    @property
    def caption(self) -> str:
        """One sentence on what lines and bands are."""
        band = f"; bands: central {self.level:.0%} of {len(self.draws)} draws" if self.draws is not None else ""
        return f"Lines: fitted law {self.law.name}{band}."

    def drawn(self, x: Inputs) -> FloatArray:
        """(draws, points) values of the law. Raises UsageError without draws."""
        if self.draws is None:
            raise UsageError(
                "this fit has no bootstrap draws, so it gives no intervals; fit again with --bootstrap 1000"
            )
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
            raise UsageError(
                f"the law {self.law.name} predicts a QAT fraction and no loss; this figure needs a loss law."
            )
        return self.value(x)

    def value(self, x: Inputs) -> Band:
        """The law's value at each point, a loss or a fraction, with its band."""
        value = _finite(self.law.predict(x))
        if self.draws is None:
            return Band(value=value, low=None, high=None)
        low, high = self._quantiles(_finite(predict_many(self.law, self.draws, x)))
        return Band(value=value, low=low, high=high)

    def optimum(self, *, n: ArrayLike, d_total: ArrayLike, bits: ArrayLike) -> tuple[Optimum, Band]:
        """The law's optimal fraction, exact, and with its band over the draws."""
        best = optimal_fraction(self.law, n=n, d_total=d_total, bits=bits)
        if self.draws is None:
            return best, Band(value=best.fraction, low=None, high=None)
        drawn = optimal_fraction(self.law, n=n, d_total=d_total, bits=bits, draws=self.draws)
        low, high = self._quantiles(drawn.fraction)
        return best, Band(value=best.fraction, low=low, high=high)

    def drawn_losses(self, x: Inputs) -> FloatArray | None:
        """(draws, points) losses, or None without draws."""
        return None if self.draws is None else _finite(predict_many(self.law, self.draws, x))

    def _tails(self) -> tuple[float, float]:
        if not 0 < self.level < 1:
            raise UsageError(f"level is {self.level:g}; allowed is between 0 and 1")
        return 0.5 * (1.0 - self.level), 0.5 * (1.0 + self.level)

    def _quantiles(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        edge = (1 - self.level) / 2
        with np.errstate(invalid="ignore"):
            low, high = np.quantile(values, [edge, 1 - edge], axis=0, method="weibull")
        return np.asarray(low), np.asarray(high)


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
    if predictor.sees_fraction:
        best, _ = Predictor(law=predictor.law).optimum(n=n, d_total=d_total, bits=bits)
        if best.interior[0]:
            optimum, optimum_loss = float(best.fraction[0]), float(best.loss[0])
    return FittedCurve(fraction=fraction, loss=loss, optimum=optimum, optimum_loss=optimum_loss)


def _finite(values: FloatArray) -> FloatArray:
    return np.where(np.isfinite(values), values, np.nan)
