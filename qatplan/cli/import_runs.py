"""`qatplan import`: anybody's table of runs into our schema."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qatplan.cli.options import Force, Json
from qatplan.cli.output import note, show
from qatplan.errors import DataError, UsageError

if TYPE_CHECKING:
    from qatplan.wording.sections import Section


def import_runs(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="CSV, JSON, JSON Lines (each also .gz) or Parquet, one row per run."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="RUNS.parquet", help="The runs table to write.")],
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
        bool, typer.Option("--diverged", help="Record rows whose loss is NaN or infinite as diverged runs.")
    ] = False,
    keep_suspect: Annotated[
        bool, typer.Option("--keep-suspect", help="Also write rows that can be stored but look wrong.")
    ] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Turn anybody's table of runs into ours: every row is written, or listed with the reason why not.

    FIELD is n_params, n_embedding, n_nonembedding, d_fp, d_qat, d_total, fraction, bits, loss, seed, run_id or any
    other column that `qatplan runs RUNS --fields` describes. Run tables of W&B and MLflow are recognised.

    \b
    Example: qatplan import theirs.csv --out runs.parquet --map n_params=N \\
                 --map d_total="flops/(6*N)" --map loss=val_loss --const fraction=1
    """
    if out.suffix != ".parquet":
        raise UsageError(f"--out is {out}; a runs table is a .parquet file.")
    if out.exists() and not force:
        raise UsageError(f"{out} exists; choose another --out, or add --force to overwrite it.")
    maps, fixed = _pairs(mapping, "--map"), _pairs(constants, "--const")
    from qatplan import runs
    from qatplan.importing import importer

    result = importer.import_runs(source, maps, fixed, diverged=diverged, keep_suspect=keep_suspect)
    written = result.table.num_rows > 0
    if written:
        runs.write(result.table, out)
    shown: dict[str, Any] = {
        "source": source,
        "out": out if written else None,
        "origin": result.origin,
        "rows_read": result.rows_read,
        "rows_written": result.table.num_rows,
        "rejected": result.rejected,
        "suspect": result.suspect,
        "notes": result.notes,
        "mapping": result.mapping,
        "unused_columns": result.unused_columns,
        "digest": runs.digest(result.table),
    }
    for remark in result.notes if as_json else ():
        note(f"note: {remark}")

    def sections() -> list[Section]:
        from qatplan.wording.imported import import_sections

        return import_sections(result, out)

    show(shown, sections, as_json)
    if not written:
        first = f"; the first: row {result.rejected[0].row}: {result.rejected[0].reason}" if result.rejected else ""
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
