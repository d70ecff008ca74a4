"""What can name a QAT fraction: laws that are fitted, a law as it was published, and a fixed share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from qatplan.errors import UsageError
from qatplan.fitting.api import fit
from qatplan.fitting.compare import refuse_twice
from qatplan.fitting.options import FitOptions
from qatplan.laws.fitted import FittedLaw, Status
from qatplan.laws.inputs import Floats, Inputs
from qatplan.laws.law import Law
from qatplan.laws.optimum import optimal_fraction
from qatplan.laws.qat_fraction import PUBLISHED_A, QatFraction
from qatplan.laws.quantiles import quantiles
from qatplan.laws.registry import NAMES, get

Kind = Literal["law", "rule"]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Fractions at points, and the law that they come from."""

    fraction: Floats
    """(points,); NaN where there is no answer."""
    low: Floats
    high: Floats
    """(points,) ends of the law's own interval; NaN without draws."""
    law: Law | None
    """None for a rule, which knows no loss."""
    parameters: int
    """Number of parameters that were fitted."""
    certified: bool
    """False where the fit did not pass its certificate; it is scored all the same."""

    def loss(self, x: Inputs) -> Floats | None:
        """Predicted losses, NaN outside the domain; None where no loss is known."""
        if self.law is None or self.law.quantity != "loss":
            return None
        known = np.array([why is None for why in self.law.outside(x)], dtype=np.bool_)
        return np.where(known, self.law.predict(x), np.nan)


class Predictor(ABC):
    """Something that names a fraction, once it has seen runs."""

    name: str
    kind: Kind

    @abstractmethod
    def fit(self, table: Any, points: Inputs) -> Split:
        """Fractions at `points` (of any split) after seeing the runs of `table`. Raises DataError if it cannot."""


@dataclass(frozen=True, kw_only=True)
class FixedShare(Predictor):
    """The same fraction always."""

    name: str
    share: float
    kind: Kind = "rule"

    def fit(self, table: Any, points: Inputs) -> Split:
        """The share, whatever the runs say."""
        nothing = np.full(len(points), np.nan)
        fraction = np.full(len(points), self.share)
        return Split(fraction=fraction, low=nothing, high=nothing, law=None, parameters=0, certified=True)


@dataclass(frozen=True, kw_only=True)
class Published(Predictor):
    """A law with the coefficients of its paper."""

    name: str
    law: Law
    kind: Kind = "rule"

    def fit(self, table: Any, points: Inputs) -> Split:
        """The law's fractions, whatever the runs say."""
        return _split(FittedLaw(law=self.law), points, parameters=0)


@dataclass(frozen=True, kw_only=True)
class Fitted(Predictor):
    """A law fitted to the runs, however `options` say."""

    name: str
    options: FitOptions
    kind: Kind = "law"

    def fit(self, table: Any, points: Inputs) -> Split:
        """The best fractions of the law fitted to `table`; terms that no run supports are left out of it."""
        fitted = fit(table, self.options, loss_law=False)
        return _split(fitted, points, parameters=len(fitted.params) - len(fitted.fixed))


RULES: tuple[Predictor, ...] = (
    FixedShare(name="always 10 %", share=0.1),
    Published(name=f"published a = {PUBLISHED_A:g}", law=QatFraction()),
)
"""What people do without a fit."""


def has_opinion(law: type[Law]) -> bool:
    """Whether a law says which fraction is best."""
    return law.quantity == "fraction" or law.sees_fraction


def predictors(laws: Sequence[str | type[Law]] | None, options: FitOptions) -> tuple[Predictor, ...]:
    """The named laws, or every law that has an opinion on the fraction, and the rules.

    `options` are those of a loss law; a law of the fraction itself takes the ones that mean something to it. Raises
    UsageError for a law without an opinion.
    """
    able = [name for name in NAMES if has_opinion(get(name))]
    asked = [get(law) for law in (able if laws is None else laws)]
    refuse_twice(asked)
    for law in asked:
        if not has_opinion(law):
            raise UsageError(f"law {law.name} does not depend on the QAT fraction; those that do are {', '.join(able)}")
    return (*(Fitted(name=law.name, options=_options_of(law, options)) for law in asked), *RULES)


def _options_of(law: type[Law], options: FitOptions) -> FitOptions:
    shared: dict[str, Any] = {
        "law": law, "rows": options.rows, "n": options.n, "seed": options.seed, "bootstrap": options.bootstrap,
    }  # fmt: skip
    if law.quantity != "fraction":
        shared |= {"huber": options.huber, "keep_tuning": options.keep_tuning, "effects": options.effects}
        shared |= {"restrict": True}
    return FitOptions(**shared)


def _split(fitted: FittedLaw, points: Inputs, *, parameters: int) -> Split:
    law = fitted.law
    fraction, low, high = (np.full(len(points), np.nan) for _ in range(3))
    known = np.array([why is None for why in law.outside(points)], dtype=np.bool_)
    if law.quantity == "loss" and known.any():
        known &= _speaks(law, points)
    if known.any():
        where = {"n": points.n[known], "d_total": points.d_total[known], "bits": points.bits[known]}
        fraction[known] = optimal_fraction(law, **where).fraction
        if fitted.draws is not None:
            drawn = optimal_fraction(law, **where, draws=fitted.draw_coordinates()).fraction
            tail = 0.5 * (1 - fitted.level)
            low[known], high[known] = quantiles(drawn, [tail, 1 - tail])
    return Split(
        fraction=fraction, low=low, high=high, law=law, parameters=parameters, certified=fitted.status is Status.GOOD
    )


def _speaks(law: Law, points: Inputs) -> np.ndarray:
    """Where a loss law, perhaps without some of its terms, still depends on the split."""
    at = [
        law.predict(Inputs.of(n=points.n, d_total=points.d_total, bits=points.bits, fraction=share))
        for share in (0.1, 0.5)
    ]
    return np.asarray(np.abs(at[0] - at[1]) > 1e-12 * np.abs(at[0]))
