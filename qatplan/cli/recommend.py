"""`qatplan recommend`: from budgets to a plan."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from qatplan.cli.options import (
    BitWidths,
    Force,
    Json,
    Memory,
    Params,
    Tokens,
    count_parser,
    location_parser,
)
from qatplan.cli.output import emit, note

_EXAMPLE = "qatplan recommend fit.json --memory 4GiB --tokens 1T --bits 2,3,4,8"


def recommend(
    fit: Annotated[
        Path | None,
        typer.Argument(metavar="[FIT]", help="A fitted law (JSON) written by `qatplan fit`.", show_default=False),
    ] = None,
    law: Annotated[
        str | None,
        typer.Option("--law", metavar="NAME", help="qat-fraction: the published fraction law, without a fit."),
    ] = None,
    memory: Memory = None,
    params: Params = None,
    model: Annotated[
        str | None, typer.Option(help="A known model such as qwen3-1.7b, or a config.json, instead of --params.")
    ] = None,
    tokens: Tokens = None,
    flops: Annotated[
        float | None, typer.Option("--flops", parser=count_parser, metavar="COUNT", help="Training FLOPs, e.g. 1e22.")
    ] = None,
    gpu_hours: Annotated[
        float | None,
        typer.Option("--gpu-hours", parser=count_parser, metavar="HOURS", help="Hours of one device, e.g. 500."),
    ] = None,
    bits: BitWidths = None,
    fraction: Annotated[float | None, typer.Option(help="Share of the tokens in QAT, if it is not free.")] = None,
    target_loss: Annotated[
        float | None, typer.Option(metavar="NATS", help="Reach this loss (nats per token) with the fewest FLOPs.")
    ] = None,
    fp_tokens: Annotated[
        float | None,
        typer.Option(
            "--fp-tokens",
            parser=count_parser,
            metavar="COUNT",
            help="Tokens that a given full-precision model has seen; token and compute budgets then count QAT alone.",
        ),
    ] = None,
    context: Annotated[int, typer.Option(help="Tokens of context at inference.")] = 8192,
    batch: Annotated[int, typer.Option(help="Sequences at a time at inference.")] = 1,
    kv_format: Annotated[str, typer.Option(help="Format of the KV cache: f16, q8_0, q4_0, fp8, ...")] = "f16",
    group_size: Annotated[
        int | None, typer.Option(help="Weights that share a scale; one scale per output channel unless given.")
    ] = None,
    embedding_bits: Annotated[
        float | None, typer.Option(help="Bits of embeddings and head; the larger of 4 and the weights' unless given.")
    ] = None,
    vocabulary: Annotated[
        float | None,
        typer.Option(
            "--vocabulary", parser=count_parser, metavar="COUNT", help="Embedding entries of an inferred shape."
        ),
    ] = None,
    sequence: Annotated[int, typer.Option(help="Tokens per training sequence.")] = 4096,
    device: Annotated[str, typer.Option(help="Training device: a100, h100, h200, b200, l40s, mi300x, ...")] = "h100",
    dtype: Annotated[str, typer.Option(help="Number format of training: bf16, fp8, tf32 or fp32.")] = "bf16",
    mfu: Annotated[float, typer.Option(help="Share of the device's peak that training reaches.")] = 0.4,
    qat_slowdown: Annotated[
        float | None,
        typer.Option(metavar="FACTOR", help="Time of a QAT token over a full-precision one; 1 unless given."),
    ] = None,
    runs: Annotated[
        list[Any] | None,
        typer.Option(
            "--runs",
            parser=location_parser,
            metavar="PATH",
            help="Your runs: they measure that factor, whether fusing helps, and what the ends of the split cost.",
        ),
    ] = None,
    price_per_hour: Annotated[float | None, typer.Option(metavar="MONEY", help="Price of one device hour.")] = None,
    level: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
    extrapolation_limit: Annotated[
        float, typer.Option(metavar="FACTOR", help="Factor beyond the fitted range from which to exit with 4.")
    ] = 10.0,
    export: Annotated[
        str | None, typer.Option(metavar="TOOL", help="Write a training recipe: torchao, paretoq, torchtitan or yaml.")
    ] = None,
    export_out: Annotated[Path | None, typer.Option(metavar="FILE", help="Where to write the recipe.")] = None,
    batch_tokens: Annotated[
        float | None,
        typer.Option("--batch-tokens", parser=count_parser, metavar="COUNT", help="Tokens per step of the recipe."),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(metavar="RATE", help="Peak learning rate of full precision, for the recipe.")
    ] = None,
    qat_learning_rate: Annotated[
        float | None, typer.Option(metavar="RATE", help="Peak learning rate of QAT, for the recipe.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Recommend bits, parameters, tokens and the QAT fraction for your budgets.

    Budgets are upper bounds, what is not given is chosen. Exits with 4 when the answer is not to be relied upon.

    Example: qatplan recommend fit.json --memory 4GiB --tokens 1T --bits 2,3,4,8
    """
    from qatplan.errors import NotTrustworthy, UsageError
    from qatplan.laws import FittedLaw, QatFraction, get
    from qatplan.models.costs import Rates
    from qatplan.models.costs import device as find_device
    from qatplan.models.layout import of_architecture
    from qatplan.models.lookup import architecture
    from qatplan.planning.problem import Problem
    from qatplan.planning.recommend import default_bits
    from qatplan.planning.recommend import recommend as ask

    if fit is None and law is None:
        raise UsageError(f"give a fit, or --law qat-fraction for the fraction alone; for instance: {_EXAMPLE}.")
    if fit is None and law is not None and get(law) is not QatFraction:
        raise UsageError(f"law {law} needs a fit; only qat-fraction works without one: qatplan fit RUNS --law {law}.")
    if export is not None and (export_out is None or batch_tokens is None):
        raise UsageError("an export needs --export-out FILE, and --batch-tokens to count its steps in.")
    if export is None and export_out is not None:
        raise UsageError("--export-out needs --export torchao, paretoq, torchtitan or yaml.")
    if export_out is not None and export_out.exists() and not force:
        raise UsageError(f"{export_out} exists; --force overwrites it.")
    fitted = None if fit is None else FittedLaw.read(fit)
    if fitted is not None and law is not None and law != fitted.law.name:
        raise UsageError(f"{fit} holds law {fitted.law.name}, not {law}; leave --law out or give another fit.")
    rows = _rows(runs)
    problem = Problem(
        bits=default_bits(fitted) if bits is None else bits,
        params=params,
        layout=None if model is None else of_architecture(architecture(model)),
        vocabulary=vocabulary,
        tokens=tokens,
        fraction=fraction,
        flops=flops,
        gpu_hours=gpu_hours,
        memory=memory,
        target_loss=target_loss,
        fp_tokens=fp_tokens,
        context=context,
        batch=batch,
        kv_format=kv_format,
        group_size=group_size,
        table_bits=embedding_bits,
        sequence=sequence,
        rates=Rates(
            device=find_device(device),
            dtype=dtype,
            utilisation=mfu,
            qat_slowdown=_slowdown(qat_slowdown, rows),
            price_per_hour=price_per_hour,
        ),
        level=level,
        extrapolation_limit=extrapolation_limit,
    )
    if fitted is None or isinstance(fitted.law, QatFraction):
        from qatplan.planning.fraction_only import advise

        if export is not None:
            raise UsageError("an export needs a fit of qat-loss: the fraction law chooses no bits and no schedule.")
        split = advise(problem, fitted)
        emit(split.as_dict(), "" if as_json else _text().fraction_advice(split), as_json)
        return
    advice = ask(fitted, problem, runs=rows)
    if export is not None and export_out is not None and batch_tokens is not None:
        from qatplan.planning.recipes import export as exports
        from qatplan.planning.recipes.recipe import recipe
        from qatplan.storage.atomic import write_bytes

        plan = recipe(
            advice, batch_tokens=batch_tokens, learning_rate=learning_rate, qat_learning_rate=qat_learning_rate
        )
        write_bytes(export_out, exports.export(plan, export).encode())
        note(f"The recipe is in {export_out}.")
    emit(advice.as_dict(), "" if as_json else _text().recommendation(advice), as_json)
    if not advice.status.trustworthy:
        raise NotTrustworthy(f"the plan is {advice.status.message}.", evidence=advice)


def _slowdown(factor: float | None, rows: list[dict[str, Any]]) -> float:
    """The factor given, else the one measured on the runs, else 1."""
    from qatplan.errors import DataError
    from qatplan.planning.evidence.slowdown import measured_slowdown

    if factor is not None or not rows:
        return 1.0 if factor is None else factor
    try:
        measured = measured_slowdown(rows)
    except DataError as error:
        note(f"{error} A QAT token is taken to cost as much as any; --qat-slowdown says otherwise.")
        return 1.0
    note(
        f"A QAT token takes {measured.factor:.3f} times as long as a full-precision one ({measured.lowest:.3f} to "
        f"{measured.highest:.3f} over {measured.settings} settings, {measured.runs} runs)."
    )
    return measured.factor


def _rows(paths: list[Any] | None) -> list[dict[str, Any]]:
    """The columns of the runs that the planner looks at."""
    if not paths:
        return []
    from qatplan import runs as door
    from qatplan.planning.evidence import slowdown
    from qatplan.planning.recommend import RUN_COLUMNS

    table = door.read(paths)
    return list(table.select(list(dict.fromkeys((*slowdown.COLUMNS, *RUN_COLUMNS)))).to_pylist())


def _text() -> ModuleType:
    """The memo writer, loaded only for people."""
    from qatplan.wording import plan as memo

    return memo
