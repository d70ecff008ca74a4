"""`qatplan design`: which runs to make next, and what they buy."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from qatplan.cli.options import (
    BitWidths,
    FitPath,
    Json,
    Params,
    Tokens,
    count_parser,
)
from qatplan.cli.output import emit


def design(
    fit: FitPath,
    budget: Annotated[
        float | None, typer.Option("--budget", parser=count_parser, metavar="COUNT", help="Training FLOPs, e.g. 1e18.")
    ] = None,
    gpu_hours: Annotated[
        float | None,
        typer.Option(
            "--gpu-hours", parser=count_parser, metavar="HOURS", help="Budget in hours of one device instead."
        ),
    ] = None,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Runs to make at most.")] = 12,
    target: Annotated[
        Literal["fraction", "bits"],
        typer.Option(help="What shall become surer: the best QAT fraction, or which bit width is best in its memory."),
    ] = "fraction",
    params: Params = None,
    tokens: Tokens = None,
    bits: BitWidths = None,
    trunk: Annotated[
        list[str] | None,
        typer.Option("--trunk", metavar="PARAMS:TOKENS", help="A full-precision trunk that you kept; repeatable."),
    ] = None,
    device: Annotated[str, typer.Option(help="Device of --gpu-hours: a100, h100, h200, ...")] = "h100",
    mfu: Annotated[float, typer.Option(help="Share of the device's bf16 peak that training reaches.")] = 0.4,
    level: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
    as_json: Json = False,
) -> None:
    """Say which runs to make next, and how much surer they make the plan.

    The target is meant at --params and --tokens; ten times the largest fitted ones unless given.

    Example: qatplan design fit.json --budget 1e18 --runs 8 --params 1.5B --tokens 300B --bits 4
    """
    from qatplan.errors import UsageError
    from qatplan.laws import FittedLaw
    from qatplan.models.costs import Rates
    from qatplan.models.costs import device as find_device
    from qatplan.planning.next_runs.design import design as ask
    from qatplan.planning.recommend import default_bits
    from qatplan.units import parse_count
    from qatplan.wording.design import design_memo

    if (budget is None) == (gpu_hours is None):
        raise UsageError("give the budget either in FLOPs (--budget 1e18) or in device hours (--gpu-hours 10).")
    if budget is None:
        budget = (gpu_hours or 0.0) * Rates(device=find_device(device), utilisation=mfu).flops_per_hour
    kept: dict[float, float] = {}
    for text in trunk or ():
        size, colon, length = text.partition(":")
        if not colon:
            raise UsageError(f"trunk {text!r} is not PARAMS:TOKENS, for instance 30M:2B.")
        kept[parse_count(size)] = parse_count(length)
    fitted = FittedLaw.read(fit)
    said = ask(
        fitted,
        budget=budget,
        runs=runs,
        target=target,
        params=params,
        tokens=tokens,
        bits=default_bits(fitted) if bits is None else bits,
        trunks=kept,
        level=level,
    )
    emit(said.as_dict(), "" if as_json else design_memo(said), as_json)
