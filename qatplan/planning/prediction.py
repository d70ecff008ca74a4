"""The loss of a given plan, with intervals and the distance from what was measured."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from qatplan.errors import UsageError
from qatplan.laws import FittedLaw, Inputs, QatFraction
from qatplan.models.layout import infer
from qatplan.planning.intervals import Interval
from qatplan.planning.objective import Objective
from qatplan.planning.trust import (
    Extrapolation,
    PlanStatus,
    extrapolation,
    status_of,
)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a fit says of one run."""

    law: str
    params: float
    params_in_law: float
    tokens: float
    bits: float | None
    """None for a full-precision run."""
    fraction: float | None
    """Share of the tokens in QAT; None for full precision."""
    fraction_chosen: bool
    """True when the fraction is the law's optimum because none was given."""
    loss: float | None
    """Nats per token; None from the fraction law."""
    loss_interval: Interval | None
    """Of the mean loss."""
    new_run_interval: Interval | None
    """Of the loss of one new run."""
    level: float
    optimal_fraction: float | None
    """The law's best share of QAT at these parameters, tokens and bits."""
    optimal_loss: float | None
    full_precision_loss: float | None
    """Of a full-precision run on the same tokens."""
    tokens_per_parameter_byte: float | None
    extrapolation: Extrapolation
    status: PlanStatus
    flags: tuple[str, ...]
    assumptions: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of `qatplan predict`."""
        plain = asdict(self)
        plain["params"], plain["tokens"] = round(self.params), round(self.tokens)
        plain["params_in_law"] = round(self.params_in_law)
        return {**plain, "status": str(self.status), "status_message": self.status.message}


def predict(
    fit: FittedLaw,
    *,
    params: float,
    tokens: float,
    bits: float | None = None,
    fraction: float | None = None,
    level: float = 0.95,
    limit: float = 10.0,
) -> Prediction:
    """Predict the loss of `params` parameters trained on `tokens` tokens, at `bits` bits from `fraction` of them on.

    Without `bits` the run is in full precision; without `fraction` the law's best one is taken. Raises UsageError for
    numbers that no run can have and for points outside the law's domain.
    """
    _check(params=params, tokens=tokens, bits=bits, fraction=fraction, level=level)
    assumptions = []
    n = params
    if fit.n_convention == "nonembedding":
        layout = infer(params)
        n = layout.nonembedding
        assumptions.append(f"parameters without embeddings, {n:.4g}, are {layout.source}")
    law = fit.law
    if isinstance(law, QatFraction):
        return _fraction_of(fit, law, params, n, tokens, bits, level, limit, assumptions)
    chosen, best_fraction, best_loss = False, None, None
    if bits is not None:
        objective = Objective.of(fit)
        if objective.sees_fraction:
            found, losses = objective.best(n, tokens, bits)
            best_fraction, best_loss = float(found[0]), float(losses[0])
        elif fraction is None:
            assumptions.append(f"law {law.name} knows no split of the tokens: all of them are QAT from scratch")
        if fraction is None:
            fraction, chosen = 1.0 if best_fraction is None else best_fraction, best_fraction is not None
    x = Inputs.of(n=n, d_total=tokens, bits=bits, fraction=fraction)
    if reason := law.outside(x)[0]:
        raise UsageError(f"the law {law.name} has no value there: {reason}.")
    loss_interval: Interval | None = None
    new_run: Interval | None = None
    flags = [f"fit: {flag}" for flag in fit.flags]
    if fit.draws is None or len(fit.draws) == 0:
        flags.append("no-intervals: the fit has no draws, so there are no intervals; fit again with --bootstrap 1000")
    else:
        loss_interval = _interval(fit, x, level, prediction=False)
        new_run = _interval(fit, x, level, prediction=True) if math.isfinite(fit.noise) else None
    distance = extrapolation(fit, x, limit=limit)
    flags += [f"extrapolation: {sentence}" for sentence in distance.sentences]
    return Prediction(
        law=law.name,
        params=params,
        params_in_law=n,
        tokens=tokens,
        bits=bits,
        fraction=fraction,
        fraction_chosen=chosen,
        loss=float(law.predict(x)[0]),
        loss_interval=loss_interval,
        new_run_interval=new_run,
        level=level,
        optimal_fraction=best_fraction,
        optimal_loss=best_loss,
        full_precision_loss=float(law.predict(Inputs.of(n=n, d_total=tokens))[0]),
        tokens_per_parameter_byte=None if bits is None else float(x.s_total[0]),
        extrapolation=distance,
        status=status_of(fit, distance),
        flags=tuple(flags),
        assumptions=tuple(assumptions),
    )


def _check(*, params: float, tokens: float, bits: float | None, fraction: float | None, level: float) -> None:
    for name, value in (("params", params), ("tokens", tokens)):
        if not (math.isfinite(value) and value > 0):
            raise UsageError(f"{name} is {value:g}, but it must be a finite number above 0.")
    if bits is not None and not 1 <= bits <= 16:
        raise UsageError(f"bits is {bits:g}, but a bit width must lie between 1 and 16.")
    if fraction is not None and not 0 <= fraction <= 1:
        raise UsageError(f"fraction is {fraction:g}, but it must lie between 0 and 1.")
    if fraction is not None and bits is None:
        raise UsageError("a fraction needs bits: a full-precision run has no QAT phase.")
    if not 0 < level < 1:
        raise UsageError(f"level is {level:g}, but it must lie between 0 and 1.")


def _interval(fit: FittedLaw, x: Inputs, level: float, *, prediction: bool) -> Interval:
    low, high = fit.predict_interval(x, level, kind="prediction" if prediction else "confidence")
    return float(low[0]), float(high[0])


def _fraction_of(
    fit: FittedLaw,
    law: QatFraction,
    params: float,
    n: float,
    tokens: float,
    bits: float | None,
    level: float,
    limit: float,
    assumptions: list[str],
) -> Prediction:
    """The fraction law's prediction: a fraction and no loss."""
    if bits is None:
        raise UsageError("the fraction law needs bits.")
    x = Inputs.of(n=n, d_total=tokens, bits=bits, fraction=0.5)
    fraction = float(law.fraction(x.s_total)[0])
    distance = extrapolation(fit, x, limit=limit)
    return Prediction(
        law=law.name,
        params=params,
        params_in_law=n,
        tokens=tokens,
        bits=bits,
        fraction=fraction,
        fraction_chosen=True,
        loss=None,
        loss_interval=None,
        new_run_interval=None,
        level=level,
        optimal_fraction=fraction,
        optimal_loss=None,
        full_precision_loss=None,
        tokens_per_parameter_byte=float(x.s_total[0]),
        extrapolation=distance,
        status=status_of(fit, distance),
        flags=("losses-need-a-sweep: the fraction law gives no loss; fit qat-loss",),
        assumptions=tuple(assumptions),
    )
