"""`qatplan compare`: rank laws by how well they predict held-out runs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from qatplan.cli.options import Details, Json, Rows, RunPaths, Seed, names_parser
from qatplan.cli.output import show


def compare(
    paths: RunPaths,
    laws: Annotated[
        Any,
        typer.Option(
            "--laws", parser=names_parser, metavar="a,b,c", help="Laws to compare; `qatplan laws` lists them."
        ),
    ] = "qat-loss,chen2025,effective,chinchilla-per-bits,chinchilla",
    holdout: Annotated[
        str,
        typer.Option(
            "--holdout", metavar="largest-n|largest-d|top-compute:0.2", help="Rows that are predicted, not fitted."
        ),
    ] = "top-compute:0.2",
    rows: Rows = None,
    n: Annotated[str, typer.Option("--n", metavar="total|nonembedding", help="Which parameters N counts.")] = "total",
    huber: Annotated[float, typer.Option("--huber", help="Delta of the Huber terms on log residuals.")] = 1e-3,
    keep_tuning: Annotated[
        bool, typer.Option("--keep-tuning", help="Keep runs that another learning rate beat at the same point.")
    ] = False,
    seed: Seed = 0,
    details: Details = False,
    as_json: Json = False,
) -> None:
    """Rank laws by held-out error, with AIC and BIC in the details.

    All laws are fitted and scored on the same rows: those that every one of them can describe.

    Example: qatplan compare sweep/ --laws qat-loss,effective,chinchilla-per-bits --holdout largest-n
    """
    from qatplan import api

    result = api.compare(
        paths, laws=laws, holdout=holdout, huber=huber, seed=seed, n=n, rows=rows, keep_tuning=keep_tuning
    )
    show(result.as_dict() if as_json else None, lambda: result.sections(details=details), as_json)
