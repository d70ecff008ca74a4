"""`qatplan compare`: rank laws by how well they predict held-out runs, or by the splits that they choose."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from qatplan.cli import options as opt
from qatplan.cli.output import show

_LAWS = (
    "Laws to compare; `qatplan laws` lists them, and FILE.toml is one of your own. Default: of qat-loss,chen2025,"
    "effective,chinchilla-per-bits,chinchilla those that describe the rows; with --score split every law with an "
    "opinion on the fraction."
)
_HOLDOUT = "Rows that are predicted, not fitted. Default top-compute:0.2; not with --score split."
_FOLDS = "With --score split: parts that the cells are dealt to. Default 6."
_BOOTSTRAP = "With --score split: draws a fit, for the coverage of intervals; 0 for none."


def compare(
    paths: opt.RunPaths,
    laws: Annotated[Any, opt.ask(_LAWS, "a,b,c", parser=opt.names_parser)] = None,
    score: Annotated[
        Literal["loss", "split"], opt.ask("Rank by the error of the loss, or by what the chosen QAT fraction costs.")
    ] = "loss",
    holdout: Annotated[str | None, opt.ask(_HOLDOUT, opt.HOLDOUT)] = None,
    folds: Annotated[int | None, opt.ask(_FOLDS, min=2)] = None,
    bootstrap: Annotated[int, opt.ask(_BOOTSTRAP, min=0)] = 0,
    rows: opt.Rows = None,
    n: opt.Counting = "total",
    huber: opt.Huber = 1e-3,
    keep_tuning: opt.KeepTuning = False,
    effects: opt.Effects = "none",
    seed: opt.Seed = 0,
    details: opt.Details = False,
    as_json: opt.Json = False,
) -> None:
    """Rank laws by their error on runs held out, or by their splits.

    By loss, all laws are fitted and scored on the same rows: those that every one of them can describe.
    With --score split, each law's QAT fraction is judged by what it costs on measured curves that the fit did not see:
    held out by cell (size, tokens, bits), the larger budgets, and the larger sizes. Simple rules stand beside the laws.

    Example: qatplan compare sweep/ --laws qat-loss,effective,chinchilla-per-bits --holdout largest-n

    Example: qatplan compare sweep/ --score split
    """
    from qatplan import api

    asked: dict[str, Any] = {
        "laws": laws, "score": score, "holdout": holdout, "folds": folds, "bootstrap": bootstrap, "huber": huber,
        "seed": seed, "n": n, "rows": rows, "keep_tuning": keep_tuning, "effects": effects,
    }  # fmt: skip
    result = api.compare(paths, **asked)
    show(result.as_dict() if as_json else None, lambda: result.sections(details=details), as_json)
