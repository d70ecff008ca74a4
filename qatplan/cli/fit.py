"""`qatplan fit`: fit a scaling law to runs."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

from qatplan.cli import options as opt
from qatplan.cli.output import note, show
from qatplan.errors import UsageError

_FIX = "Fix a parameter; an amplitude at 0 removes its term. With qat-fraction, of the loss law beside it."


def fit(
    paths: opt.RunPaths,
    out: Annotated[Path, opt.ask("Where the fitted law is written.", "FIT.json")],
    law: Annotated[
        str, opt.ask("Law to fit: a name that `qatplan laws` lists, or the file of your own.", "NAME|FILE.toml")
    ] = ("qat-loss"),
    rows: opt.Rows = None,
    bootstrap: Annotated[int, opt.ask("Bootstrap draws; 0 for none.", min=0)] = 1000,
    interval: Annotated[str, opt.ask("Where parameter intervals come from.", "bootstrap|profile")] = ("bootstrap"),
    level: Annotated[float, opt.ask("Confidence level of intervals.")] = 0.95,
    holdout: Annotated[str | None, opt.ask("Also fit without these rows and predict them.", opt.HOLDOUT)] = None,
    leave_one_size_out: Annotated[bool, opt.flag("--leave-one-size-out", "Predict each size by the others.")] = False,
    n: opt.Counting = "total",
    huber: opt.Huber = 1e-3,
    fix: Annotated[list[str] | None, opt.ask(_FIX, "NAME=VALUE")] = None,
    restrict: Annotated[bool, opt.flag("--restrict", "Leave out terms that no row supports.")] = False,
    keep_tuning: opt.KeepTuning = False,
    effects: opt.Effects = "none",
    seed: opt.Seed = 0,
    force: opt.Force = False,
    details: opt.Details = False,
    as_json: opt.Json = False,
) -> None:
    """Fit a scaling law to runs, with intervals and a certificate.

    The fit is written and printed even where its certificate fails; the command then ends with 4.

    Example: qatplan fit sweep/ --law qat-loss --holdout largest-n --out fit.json
    """
    _check_target(out, paths, force)
    fixed: dict[str, Any] = {**opt.pairs(fix, "--fix", "NAME=VALUE")}
    from qatplan import api

    fitted = api.fit(
        paths, law=law, huber=huber, seed=seed, bootstrap=bootstrap, interval=interval, level=level, holdout=holdout,
        leave_one_size_out=leave_one_size_out, n=n, rows=rows, keep_tuning=keep_tuning, effects=effects, fix=fixed,
        restrict=restrict,
        command=shlex.join(["qatplan", *sys.argv[1:]]) if sys.argv[1:2] == ["fit"] else None,
    )  # fmt: skip
    fitted.save(out)
    show(fitted.as_dict() if as_json else None, lambda: fitted.sections(details=details), as_json)
    note(f"written to {out}")
    fitted.fitted.require_trust()


def _check_target(out: Path, paths: list[Any], force: bool) -> None:
    """Refuse before the work: a fit is only overwritten with --force, any other file never."""
    from qatplan.errors import DataError
    from qatplan.storage.target import check_target

    # Whatever lies in a folder of runs and is a fit is none of the runs.
    check_target(out, reads=[path for path in paths if not Path(path).is_dir()], force=True)
    if not os.path.exists(os.path.realpath(out)):
        return
    from qatplan.laws.fitted import FittedLaw

    try:
        FittedLaw.read(Path(os.path.realpath(out)))
    except DataError as error:
        raise UsageError(f"{out} exists and is no fit of ours; it is not overwritten.") from error
    check_target(out, force=force)
