"""`qatplan plot`: one figure from runs, a fit, or both."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qatplan.cli.options import (
    BitWidths,
    Json,
    Params,
    Rows,
    Tokens,
    location_parser,
)
from qatplan.cli.output import emit, note
from qatplan.errors import DataError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from qatplan.figures.make import Made, Request
    from qatplan.fitting.curves import MeasuredOptimum
    from qatplan.laws.fitted import FittedLaw
    from qatplan.storage.base import Location


class Layout(StrEnum):
    """How loss curves share panels."""

    grid = "grid"
    bits = "bits"


KindArgument = Annotated[
    str, typer.Argument(metavar="KIND", help="loss-curves, fraction, contours, frontier, residuals or parameters.")
]
Sources = Annotated[
    list[Any],
    typer.Argument(
        parser=location_parser,
        metavar="(FIT | RUNS...)",
        help="A fit (JSON), or runs: folders (also s3:// and gs:// URLs), Parquet or CSV files.",
    ),
]
Out = Annotated[
    Path, typer.Option("--out", metavar="FILE", help="Figure to write: .svg, .pdf or .png; replaced if it exists.")
]
MoreRuns = Annotated[
    list[Any] | None,
    typer.Option(
        "--runs",
        parser=location_parser,
        metavar="RUNS",
        help="Runs to show with a fit; default: the files the fit was made from.",
    ),
]
LayoutOption = Annotated[
    Layout, typer.Option("--layout", help="loss-curves: a panel per size and bit width, or per bit width alone.")
]
Relative = Annotated[
    bool, typer.Option("--relative", help="loss-curves: loss above the full-precision run of the same size and tokens.")
]
Training = Annotated[
    bool, typer.Option("--training", help="loss-curves: loss along training, for one size and budget.")
]


def plot(
    kind: KindArgument,
    sources: Sources,
    out: Out,
    runs: MoreRuns = None,
    rows: Rows = None,
    params: Params = None,
    tokens: Tokens = None,
    bits: BitWidths = None,
    layout: LayoutOption = Layout.grid,
    relative: Relative = False,
    training: Training = False,
    as_json: Json = False,
) -> None:
    """Draw one figure: vector (SVG, PDF) or PNG, readable in grey.

    Example: qatplan plot loss-curves data/sweep --out loss-curves.svg
    """
    from qatplan.figures import make, style

    make.check_kind(kind)
    target = style.out_path(out)
    fit_path, run_paths = _split(kind, sources, list(runs or []))
    make.check_sources(kind, fit=fit_path is not None, runs=True)
    fitted = None if fit_path is None else _read_fit(fit_path)
    if fit_path is not None and fitted is not None and not run_paths and kind != "parameters":
        run_paths = _recorded(fit_path, fitted)
    make.check_sources(kind, fit=fitted is not None, runs=bool(run_paths))
    table = _read_runs(run_paths, rows)
    if kind == "residuals" and fitted is not None and table is not None:
        table = _as_fitted(table, fitted)
    request = make.Request(
        params=params, tokens=tokens, bits=bits, layout=layout.value, relative=relative, training=training
    )
    made = _made(kind, table, fitted, request)
    written = style.save(made.figure, target)
    shown: dict[str, Any] = {
        "kind": kind,
        "out": str(written),
        "title": made.title,
        "notes": made.notes,
        "series": made.series,
    }
    emit(shown, "\n".join([f"wrote {written}", made.title, *made.notes]), as_json)


def _made(kind: str, table: pa.Table | None, fitted: FittedLaw | None, request: Request) -> Made:
    from qatplan.figures import make
    from qatplan.figures.measured import runs_of

    convention = "total" if fitted is None else fitted.n_convention
    return make.make(
        kind,
        runs=None if table is None else runs_of(table, convention),
        fitted=fitted,
        optima=_optima(table, fitted, convention) if kind == "fraction" else (),
        request=request,
    )


def _split(kind: str, sources: list[Location], extra: list[Location]) -> tuple[Path | None, list[Location]]:
    """(the fit, the runs) among what was named; a fit is a JSON file."""
    fits = [p for p in sources if _is_json(p)]
    tables = [p for p in sources if not _is_json(p)] + extra
    if len(fits) > 1:
        raise UsageError(f"{kind} shows one fit, and {len(fits)} JSON files were given.")
    wrong = next((p for p in extra if _is_json(p)), None)
    if wrong is not None:
        raise UsageError(f"--runs {wrong} is a JSON file; runs are folders, Parquet or CSV files.")
    return (Path(fits[0]) if fits else None), tables


def _is_json(location: Location) -> bool:
    return str(location).lower().endswith(".json")


def _read_fit(path: Path) -> FittedLaw:
    from qatplan.laws.fitted import FittedLaw

    return FittedLaw.read(path)


def _read_runs(paths: list[Location], expression: str | None) -> pa.Table | None:
    from qatplan import runs

    if not paths:
        return None
    table = runs.read(paths)
    if expression is not None:
        table = runs.select(table, expression)
    if table.num_rows == 0:
        raise DataError("no run is left to draw; check --rows." if expression else "the table holds no runs.")
    return table


def _optima(table: pa.Table | None, fitted: FittedLaw | None, convention: str) -> list[MeasuredOptimum]:
    from qatplan.fitting.curves import measured_optima, recorded_optima

    if table is not None:
        return measured_optima(table, n=convention)
    return recorded_optima(fitted) if fitted is not None else []


def _recorded(fit_path: Path, fitted: FittedLaw) -> list[Location]:
    from qatplan.fitting.provenance import recorded_runs

    found = recorded_runs(fitted, fit_path)
    if found:
        note(f"runs: {', '.join(str(path) for path in found)} (named by the fit; choose others with --runs)")
    return found


def _as_fitted(table: pa.Table, fitted: FittedLaw) -> pa.Table:
    """The rows that the fit's law is fitted on, and a remark if they are not the ones it was fitted on."""
    from qatplan.fitting.provenance import rows_of_fit

    if fitted.law.quantity != "loss":
        return table
    rows, same = rows_of_fit(fitted, table)
    if same is False:
        note("remark: these runs are not exactly those that the fit was made from")
    if rows is None:
        raise DataError(f"no run can be used with law {fitted.law.name}, so there are no residuals to draw.")
    return rows
