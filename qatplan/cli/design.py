"""`qatplan design`: which runs to make next, and what they buy."""

from __future__ import annotations

from typing import Annotated, Literal

from qatplan.cli import options as opt
from qatplan.cli.output import show

_TARGET = "What to make surer: the best QAT fraction, or which bit width is best in its memory."


def design(
    fit: opt.FitPath,
    budget: Annotated[float | None, opt.count("Training FLOPs, e.g. 1e18.")] = None,
    gpu_hours: opt.GpuHours = None,
    runs: Annotated[int, opt.ask("Runs to make at most.", min=1)] = 12,
    target: Annotated[Literal["fraction", "bits"], opt.ask(_TARGET)] = "fraction",
    params: opt.Params = None,
    tokens: opt.Tokens = None,
    bits: opt.BitWidths = None,
    trunk: Annotated[list[str] | None, opt.ask("A trunk that you kept; repeatable.", "PARAMS:TOKENS")] = None,
    device: opt.Device = "h100",
    mfu: opt.Mfu = 0.4,
    level: opt.Level = 0.95,
    extrapolation_limit: opt.ExtrapolationLimit = 10.0,
    details: opt.Details = False,
    as_json: opt.Json = False,
) -> None:
    """Say which runs to make next, and what they buy.

    The target is meant at --params and --tokens; ten times the largest fitted ones unless given.

    Example: qatplan design fit.json --budget 1e18 --runs 8 --params 1.5B --tokens 300B --bits 4
    """
    from qatplan import api
    from qatplan.errors import NotTrustworthy

    made = api.design(
        fit, budget=budget, gpu_hours=gpu_hours, runs=runs, target=target, params=params, tokens=tokens, bits=bits,
        trunks=opt.pairs(trunk, "--trunk", "PARAMS:TOKENS"), device=device, mfu=mfu, level=level,
        extrapolation_limit=extrapolation_limit,
    )  # fmt: skip
    show(made.as_dict(), lambda: made.sections(details=details), as_json)
    if not made.design.status.trustworthy:
        raise NotTrustworthy(f"the design is {made.design.status.message}.", evidence=made.design)
