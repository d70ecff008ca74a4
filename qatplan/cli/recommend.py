"""`qatplan recommend`: from budgets to a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from qatplan.cli import options as opt
from qatplan.cli.output import note, show

_FP_TOKENS = "Tokens that a given full-precision model has seen; token and compute budgets then count QAT alone."
_SPLIT = "A fit of fraction-surface: measured curves that the split is held against, and taken from where it is better."
_RUNS = "Your runs: they measure that factor, whether fusing helps, and what the ends of the split cost."


def recommend(
    fit: Annotated[Path | None, typer.Argument(metavar="[FIT]", help=opt.FIT, show_default=False)] = None,
    law: Annotated[str | None, opt.ask("qat-fraction: the published fraction law, without a fit.", "NAME")] = None,
    memory: opt.Memory = None,
    params: opt.Params = None,
    model: Annotated[str | None, opt.ask("Instead of --params: a name such as qwen3-1.7b, or config.json.")] = None,
    tokens: opt.Tokens = None,
    flops: opt.Flops = None,
    gpu_hours: opt.GpuHours = None,
    bits: opt.BitWidths = None,
    fraction: opt.Fraction = None,
    target_loss: Annotated[str | None, opt.ask("Reach this loss with the fewest FLOPs.", "LOSS")] = None,
    fp_tokens: Annotated[float | None, opt.count(_FP_TOKENS)] = None,
    context: Annotated[int, opt.ask("Tokens per sequence that the KV cache holds.")] = 8192,
    batch: Annotated[int, opt.ask("Sequences at a time at inference.")] = 1,
    kv_format: opt.KvFormat = "f16",
    group_size: Annotated[int | None, opt.ask("Weights that share a scale; an output channel unless given.")] = None,
    embedding_bits: Annotated[float | None, opt.ask("Of embeddings and head; at least 4 by default.")] = None,
    vocabulary: Annotated[float | None, opt.count("Embedding entries of an inferred shape.")] = None,
    sequence: Annotated[int, opt.ask("Tokens per training sequence.")] = 4096,
    device: opt.Device = "h100",
    dtype: Annotated[str, opt.ask("Number format of training: bf16, fp8, tf32 or fp32.")] = "bf16",
    mfu: opt.Mfu = 0.4,
    qat_slowdown: Annotated[float | None, opt.ask("Time of a QAT token over a full-precision one's.", "FACTOR")] = None,
    split: Annotated[Path | None, opt.ask(_SPLIT, "FIT")] = None,
    tolerance: Annotated[
        float | None, opt.ask("Loss that a fraction may cost; default a run's scatter.", "NATS")
    ] = None,
    runs: Annotated[list[Any] | None, opt.location(_RUNS, "PATH")] = None,
    price_per_hour: Annotated[float | None, opt.ask("Price of one device hour.", "MONEY")] = None,
    level: opt.Level = 0.95,
    extrapolation_limit: opt.ExtrapolationLimit = 10.0,
    export: Annotated[str | None, opt.ask("Write a recipe: torchao, paretoq, torchtitan or yaml.", "TOOL")] = None,
    export_out: Annotated[Path | None, opt.ask("Where to write the recipe.", "FILE")] = None,
    batch_tokens: Annotated[float | None, opt.count("Tokens per step of the recipe.")] = None,
    learning_rate: Annotated[float | None, opt.ask("The recipe's peak rate in full precision.", "RATE")] = None,
    qat_learning_rate: Annotated[float | None, opt.ask("The recipe's peak rate in QAT.", "RATE")] = None,
    force: opt.Force = False,
    details: opt.Details = False,
    as_json: opt.Json = False,
) -> None:
    """Recommend bits, size, tokens and the QAT fraction.

    Budgets are upper bounds, what is not given is chosen. Exits with 4 when the answer is not to be relied upon.

    Example: qatplan recommend fit.json --memory 4GiB --tokens 1T --bits 2,3,4,8
    """
    from qatplan import api
    from qatplan.errors import NotTrustworthy, UsageError
    from qatplan.storage.target import check_target

    if export is not None and (export_out is None or batch_tokens is None):
        raise UsageError("an export needs --export-out FILE, and --batch-tokens to count its steps in.")
    if export is None and export_out is not None:
        raise UsageError("--export-out needs --export torchao, paretoq, torchtitan or yaml.")
    if export is None:
        for option, value in (
            ("--batch-tokens", batch_tokens), ("--learning-rate", learning_rate),
            ("--qat-learning-rate", qat_learning_rate),
        ):  # fmt: skip
            if value is not None:
                raise UsageError(f"{option} belongs to a recipe; give --export too, or leave it out.")
    if export_out is not None:
        reads = [fit, split, *(runs or ()), None if model is None else Path(model)]
        check_target(export_out, reads=reads, force=force, option="--export-out")
    plan = api.recommend(
        fit, law=law, memory=memory, params=params, model=model, tokens=tokens, flops=flops, gpu_hours=gpu_hours,
        bits=bits, fraction=fraction, target_loss=target_loss, fp_tokens=fp_tokens, context=context, batch=batch,
        kv_format=kv_format, group_size=group_size, embedding_bits=embedding_bits, vocabulary=vocabulary,
        sequence=sequence, device=device, dtype=dtype, mfu=mfu, qat_slowdown=qat_slowdown, split=split,
        tolerance=tolerance, runs=runs, price_per_hour=price_per_hour, level=level,
        extrapolation_limit=extrapolation_limit,
    )  # fmt: skip
    note(*plan.advice.remarks)
    show(plan.as_dict(), lambda: plan.sections(details=details), as_json)
    if export is not None and export_out is not None and batch_tokens is not None:
        plan.export(
            export, export_out, batch_tokens=batch_tokens, learning_rate=learning_rate,
            qat_learning_rate=qat_learning_rate, overwrite=force,
        )  # fmt: skip
        note(f"The recipe is in {export_out}.")
    if not plan.trustworthy:
        raise NotTrustworthy(f"the plan is {plan.advice.status.message}.", evidence=plan.advice)
