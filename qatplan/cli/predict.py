"""`qatplan predict`: the loss of a given plan under a fitted law."""

from __future__ import annotations

from typing import Annotated

from qatplan.cli import options as opt
from qatplan.cli.output import show


def predict(
    fit: opt.FitPath,
    params: Annotated[float, opt.PARAMS],
    tokens: Annotated[float, opt.TOKENS],
    bits: Annotated[float | None, opt.ask("Bits per weight; full precision unless given.")] = None,
    fraction: opt.Fraction = None,
    level: opt.Level = 0.95,
    extrapolation_limit: opt.ExtrapolationLimit = 10.0,
    as_json: opt.Json = False,
) -> None:
    """Predict the loss of a run, and say how sure that is.

    Example: qatplan predict fit.json --params 1.5B --tokens 300B --bits 4 --fraction 0.2
    """
    from qatplan import api
    from qatplan.errors import NotTrustworthy

    made = api.predict(
        fit, params=params, tokens=tokens, bits=bits, fraction=fraction, level=level,
        extrapolation_limit=extrapolation_limit,
    )  # fmt: skip
    show(made.as_dict(), made.sections, as_json)
    status = made.predicted.status
    if not status.trustworthy:
        raise NotTrustworthy(f"the prediction is {status.message}.", evidence=made.predicted)
