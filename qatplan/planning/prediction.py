"""The loss of a given plan, with intervals and the distance from what was measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from qatplan.errors import UsageError
from qatplan.laws import FittedLaw, Inputs, optimal_fraction
from qatplan.models.layout import infer
from qatplan.planning import caveats
from qatplan.planning.caveats import Concern, Flag
from qatplan.planning.intervals import Interval, draws_of, loss_intervals
from qatplan.planning.objective import Objective
from qatplan.planning.request import FULL_PRECISION, refuse_split, require
from qatplan.planning.trust import Extrapolation, PlanStatus, extrapolation, status_of


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
    loss: float | None = None
    """Nats per token; None from the fraction law."""
    bytes_per_token: float | None = None
    """Of the text that the fit is about; None where its runs do not say."""
    loss_interval: Interval | None = None
    """Of the mean loss."""
    new_run_interval: Interval | None = None
    """Of the loss of one new run."""
    level: float
    optimal_fraction: float | None
    """The law's best share of QAT at these parameters, tokens and bits."""
    optimal_loss: float | None = None
    full_precision_loss: float | None = None
    """Of a full-precision run on the same tokens."""
    tokens_per_parameter_byte: float | None
    extrapolation: Extrapolation
    status: PlanStatus
    flags: tuple[Flag, ...]
    assumptions: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of `qatplan predict`."""
        plain = asdict(self)
        for name in ("params", "tokens", "params_in_law"):
            plain[name] = round(plain[name])
        plain["flags"] = [str(flag) for flag in self.flags]
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
    require(params=params, tokens=tokens, bits=bits, fraction=fraction, level=level, extrapolation_limit=limit)
    if fraction is not None and bits is None:
        raise UsageError("a fraction needs bits: a full-precision run has no QAT phase.")
    law, n, assumptions = fit.law, params, []
    if bits is not None and bits >= FULL_PRECISION and (fraction is None or not law.takes_controls):
        # At 16 bits nothing is rounded: a fraction only has a meaning for a law of such second phases.
        refuse_split(bits, fraction)
        bits = fraction = None
    if fit.n_convention == "nonembedding":
        layout = infer(params)
        n = layout.nonembedding
        assumptions.append(f"parameters without embeddings, {n:.4g}, are {layout.source}")
    known: dict[str, Any]
    if law.quantity == "fraction":
        if bits is None:
            raise UsageError("the fraction law needs bits below 16: full precision has no QAT phase.")
        x = Inputs.of(n=n, d_total=tokens, bits=bits, fraction=0.5)
        fraction = float(optimal_fraction(law, n=n, d_total=tokens, bits=bits).fraction[0])
        known = {"fraction_chosen": True, "optimal_fraction": fraction}
        flags = [Flag(Concern.LOSSES_NEED_A_SWEEP, "the fraction law gives no loss; fit qat-loss")]
    else:
        chosen, best_fraction, best_loss = False, None, None
        if bits is not None:
            objective = Objective.of(fit)
            if objective.sees_fraction:
                found, losses = objective.best(n, tokens, bits)
                best_fraction, best_loss = float(found[0]), float(losses[0])
            elif fraction is None:
                assumptions.append(caveats.no_split(fit))
            if fraction is None:
                fraction, chosen = 1.0 if best_fraction is None else best_fraction, best_fraction is not None
        x = Inputs.of(n=n, d_total=tokens, bits=bits, fraction=fraction)
        if reason := law.outside(x)[0]:
            raise UsageError(f"the law {law.name} has no value there: {reason}.")
        mean, new_run = loss_intervals(draws_of(fit, level), x)
        known = {
            "fraction_chosen": chosen,
            "loss": float(law.predict(x)[0]),
            "bytes_per_token": fit.bytes_per_token,
            "loss_interval": mean,
            "new_run_interval": new_run,
            "optimal_fraction": best_fraction,
            "optimal_loss": best_loss,
            "full_precision_loss": float(law.predict(Inputs.of(n=n, d_total=tokens))[0]),
        }
        flags = [*caveats.flags_about(Concern.FIT, fit.flags), *caveats.missing_draws(fit)]
    distance = extrapolation(fit, x, limit=limit)
    if "loss" in known:
        flags += caveats.flags_about(Concern.EXTRAPOLATION, distance.sentences)
    return Prediction(
        law=law.name,
        params=params,
        params_in_law=n,
        tokens=tokens,
        level=level,
        bits=bits,
        fraction=fraction,
        tokens_per_parameter_byte=None if bits is None else float(x.s_total[0]),
        extrapolation=distance,
        status=status_of(fit, distance),
        flags=tuple(flags),
        assumptions=tuple(assumptions),
        **known,
    )
