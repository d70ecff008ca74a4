"""`qatplan compare`: rank laws by how well they predict held-out runs, or by the splits that they choose."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from qatplan.cli import options as opt
from qatplan.cli.output import show


class Score(StrEnum):
    """What laws are ranked by."""

    LOSS = "loss"
    SPLIT = "split"


def compare(
    paths: opt.RunPaths,
    laws: Annotated[
        Any,
        opt.ask(
            "Laws to compare; `qatplan laws` lists them. Default: qat-loss,chen2025,effective,chinchilla-per-bits,"
            "chinchilla; with --score split every law with an opinion on the fraction.",
            "a,b,c",
            parser=opt.names_parser,
        ),
    ] = None,
    score: Annotated[
        Score, opt.ask("Rank by the error of the loss, or by what the chosen QAT fraction costs.")
    ] = Score.LOSS,
    holdout: Annotated[
        str | None,
        opt.ask("Rows that are predicted, not fitted. Default top-compute:0.2; not with --score split.", opt.HOLDOUT),
    ] = None,
    folds: Annotated[
        int | None, opt.ask("With --score split: parts that the cells are dealt to. Default 6.", min=2)
    ] = None,
    bootstrap: Annotated[
        int, opt.ask("With --score split: draws a fit, for the coverage of intervals; 0 for none.", min=0)
    ] = 0,
    rows: opt.Rows = None,
    n: opt.Counting = "total",
    huber: opt.Huber = 1e-3,
    keep_tuning: opt.KeepTuning = False,
    seed: opt.Seed = 0,
    details: opt.Details = False,
    as_json: opt.Json = False,
) -> None:
    """Rank laws by held-out error, with AIC and BIC in the details; or by the splits that they choose.

    By loss, all laws are fitted and scored on the same rows: those that every one of them can describe.
    With --score split, each law's QAT fraction is judged by what it costs on measured curves that the fit did not see:
    held out by cell (size, tokens, bits), the larger budgets, and the larger sizes. Simple rules stand beside the laws.

    Example: qatplan compare sweep/ --laws qat-loss,effective,chinchilla-per-bits --holdout largest-n

    Example: qatplan compare sweep/ --score split
    """
    from qatplan import api

    asked: dict[str, Any] = {
        "laws": laws, "score": score.value, "holdout": holdout, "folds": folds, "bootstrap": bootstrap, "huber": huber,
        "seed": seed, "n": n, "rows": rows, "keep_tuning": keep_tuning,
    }  # fmt: skip
    result = api.compare(paths, **asked)
    show(result.as_dict() if as_json else None, lambda: result.sections(details=details), as_json)
