"""`qatplan import`: anybody's table of runs into our schema."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qatplan.cli import options as opt
from qatplan.cli.output import note, show
from qatplan.errors import DataError, UsageError

if TYPE_CHECKING:
    from qatplan.wording.sections import Section


def import_runs(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="CSV, JSON, JSON Lines (each also .gz) or Parquet, one row per run."),
    ],
    out: Annotated[Path, opt.ask("The runs table to write.", "RUNS.parquet")],
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="FIELD=COLUMN",
            help="Where a field comes from: a column, or a product or quotient of columns and numbers such as "
            '"d_total=flops/(6*n)"; repeatable.',
        ),
    ] = None,
    constants: Annotated[
        list[str] | None,
        typer.Option("--const", metavar="FIELD=VALUE", help="A value for a field in every row; repeatable."),
    ] = None,
    diverged: Annotated[
        bool, opt.flag("--diverged", "Record rows whose loss is NaN or infinite as diverged runs.")
    ] = False,
    keep_suspect: Annotated[
        bool, opt.flag("--keep-suspect", "Also write rows that can be stored but look wrong.")
    ] = False,
    force: opt.Force = False,
    as_json: opt.Json = False,
) -> None:
    """Turn anybody's table of runs into ours.

    Every row is written, or listed with the reason why not.

    FIELD is n_params, n_embedding, n_nonembedding, d_fp, d_qat, d_total, fraction, bits, loss, seed, run_id or any
    other column that `qatplan runs RUNS --fields` describes. Run tables of W&B and MLflow are recognised.

    \b
    Example: qatplan import theirs.csv --out runs.parquet --map n_params=N \\
                 --map d_total="flops/(6*N)" --map loss=val_loss
    """
    if out.suffix != ".parquet":
        raise UsageError(f"--out is {out}; a runs table is a .parquet file.")
    if out.exists() and not force:
        raise UsageError(f"{out} exists; choose another --out, or add --force to overwrite it.")
    maps, fixed = _pairs(mapping, "--map"), _pairs(constants, "--const")
    from qatplan import api

    made = api.import_runs(source, maps, fixed, diverged=diverged, keep_suspect=keep_suspect)
    written = len(made.runs) > 0
    if written:
        made.runs.save(out)
    note(*(f"note: {remark}" for remark in made.imported.notes if as_json))

    def sections() -> list[Section]:
        from qatplan.wording.imported import import_sections

        return import_sections(made.imported, out)

    show({"source": source, "out": out if written else None, **made.as_dict()}, sections, as_json)
    if not written:
        reasons = [f"row {refused.row}: {refused.reason}" for refused in made.imported.rejected]
        first = f"; the first: {reasons[0]}" if reasons else ""
        raise DataError(f"No row of {source} can be used, and nothing was written{first}.")


def _pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts or ():
        field, sign, value = text.partition("=")
        if not sign or not field.strip() or not value.strip():
            raise UsageError(
                f"{option} '{text}' is not of the form FIELD={'COLUMN' if option == '--map' else 'VALUE'}."
            )
        if field.strip() in pairs:
            raise UsageError(f"{option} gives {field.strip()} twice.")
        pairs[field.strip()] = value.strip()
    return pairs
