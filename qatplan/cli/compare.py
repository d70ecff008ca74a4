"""`qatplan compare`: rank laws by how well they predict held-out runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from qatplan.cli.options import (
    Json,
    Rows,
    RunPaths,
    Seed,
    names_parser,
)
from qatplan.cli.output import emit, plain, table

if TYPE_CHECKING:
    from qatplan.fitting.compare import Comparison


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
    as_json: Json = False,
) -> None:
    """Rank laws by held-out error, with AIC and BIC beside it.

    All laws are fitted and scored on the same rows: those that every one of them can describe.

    Example: qatplan compare sweep/ --laws qat-loss,effective,chinchilla-per-bits --holdout largest-n
    """
    from qatplan import runs as door
    from qatplan.fitting.compare import compare as compare_laws

    result = compare_laws(
        door.read(paths), laws=laws, holdout=holdout, huber=huber, seed=seed, n=n, rows=rows, keep_tuning=keep_tuning
    )
    emit(plain(result), _text(result), as_json)


def _text(result: Comparison) -> str:
    from qatplan.cli.digits import percent

    body = [
        [
            e.law,
            e.parameters,
            None if e.mape is None else percent(e.mape),
            None if e.max_ape is None else percent(e.max_ape),
            None if e.in_sample_mape is None else percent(e.in_sample_mape),
            None if e.aic is None else f"{e.aic:.1f}",
            None if e.bic is None else f"{e.bic:.1f}",
            e.status,
        ]
        for e in result.entries
    ]
    lines = [
        f"{result.rows} runs that every law describes; {result.held_out} held out ({result.holdout})",
        "",
        table(["law", "parameters", "held-out error", "worst", "error of the fit", "AIC", "BIC", "status"], body),
        "",
        *(f"{s}." for s in result.said),
    ]
    if result.scatter is not None:
        lines.append(f"Runs that differ in the seed alone differ by {percent(result.scatter)}; no law can do better.")
    lines += [f"  {e.law}: {e.note}" for e in result.entries if e.note]
    lines += [f"  left out: {e['rows']} rows: {e['reason']}" for e in result.left_out]
    return "\n".join(lines)
