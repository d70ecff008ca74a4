"""`qatplan predict`: the loss of a given plan under a fitted law."""

from __future__ import annotations

from typing import Annotated

import typer

from qatplan.cli.options import FitPath, Json, count_parser
from qatplan.cli.output import emit


def predict(
    fit: FitPath,
    params: Annotated[
        float,
        typer.Option("--params", parser=count_parser, metavar="COUNT", help="Parameters of the model, e.g. 1.5B."),
    ],
    tokens: Annotated[
        float, typer.Option("--tokens", parser=count_parser, metavar="COUNT", help="Training tokens in all, e.g. 300B.")
    ],
    bits: Annotated[float | None, typer.Option(help="Bits per weight; full precision unless given.")] = None,
    fraction: Annotated[
        float | None, typer.Option(help="Share of the tokens in QAT, 0 to 1; the law's best unless given.")
    ] = None,
    level: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
    extrapolation_limit: Annotated[
        float, typer.Option(metavar="FACTOR", help="Factor beyond the fitted range from which to exit with 4.")
    ] = 10.0,
    as_json: Json = False,
) -> None:
    """Predict the loss of a run, with intervals and the distance from what was measured.

    Example: qatplan predict fit.json --params 1.5B --tokens 300B --bits 4 --fraction 0.2
    """
    from qatplan.errors import NotTrustworthy
    from qatplan.laws import FittedLaw
    from qatplan.planning.prediction import predict as ask
    from qatplan.wording import plan

    said = ask(
        FittedLaw.read(fit),
        params=params,
        tokens=tokens,
        bits=bits,
        fraction=fraction,
        level=level,
        limit=extrapolation_limit,
    )
    emit(said.as_dict(), plan.prediction(said), as_json)
    if not said.status.trustworthy:
        raise NotTrustworthy(f"the prediction is {said.status.message}.", evidence=said)
