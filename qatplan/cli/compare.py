"""`qatplan compare`: rank laws by how well they predict held-out runs."""

from __future__ import annotations

from typing import Annotated, Any

from qatplan.cli import options as opt
from qatplan.cli.output import show

_LAWS = "qat-loss,chen2025,effective,chinchilla-per-bits,chinchilla"


def compare(
    paths: opt.RunPaths,
    laws: Annotated[Any, opt.ask("Laws to compare; see `qatplan laws`.", "a,b,c", parser=opt.names_parser)] = _LAWS,
    holdout: Annotated[str, opt.ask("Rows that are predicted, not fitted.", opt.HOLDOUT)] = "top-compute:0.2",
    rows: opt.Rows = None,
    n: opt.Counting = "total",
    huber: opt.Huber = 1e-3,
    keep_tuning: opt.KeepTuning = False,
    seed: opt.Seed = 0,
    details: opt.Details = False,
    as_json: opt.Json = False,
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
