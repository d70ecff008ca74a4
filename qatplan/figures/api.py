"""A figure from what a person has at hand: a fit, runs, or both; runs that a fit names are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qatplan import runs
from qatplan.errors import DataError, UsageError
from qatplan.figures.make import Made, Request, check_kind, check_sources, make
from qatplan.figures.measured import runs_of
from qatplan.fitting.curves import MeasuredOptimum, measured_optima, recorded_optima
from qatplan.fitting.provenance import recorded_runs, rows_of_fit
from qatplan.laws.fitted import FittedLaw

if TYPE_CHECKING:
    import pyarrow as pa

    from qatplan.storage.base import Location


def draw(
    kind: str,
    *,
    fitted: FittedLaw | None = None,
    path: Path | None = None,
    table: pa.Table | None = None,
    rows: str | None = None,
    request: Request | None = None,
) -> Made:
    """The figure of `kind` from a fit, a table of runs, or both; nothing global in matplotlib is touched.

    Without a table the runs are those that the fit of `path` names, if they are still there. `rows` is an expression
    that chooses runs. Residuals are those of the rows that the fit used. Raises UsageError for an unknown kind or a
    missing source, DataError where nothing is left to draw.
    """
    check_kind(kind)
    check_sources(kind, fit=fitted is not None, runs=True)
    remarks = []
    if table is None and fitted is not None and path is not None and kind != "parameters":
        found = recorded_runs(fitted, path)
        if found:
            table = runs.read(found)
            remarks.append(f"runs: {', '.join(map(str, found))} (named by the fit; choose others with --runs)")
    check_sources(kind, fit=fitted is not None, runs=table is not None)
    if table is not None:
        table = table if rows is None else runs.select(table, rows)
        if table.num_rows == 0:
            raise DataError("no run is left to draw; check --rows." if rows else "the table holds no runs.")
    optima = _optima(fitted, table) if kind == "fraction" else []
    if kind == "residuals" and fitted is not None and table is not None and fitted.law.quantity == "loss":
        table, exact = rows_of_fit(fitted, table)
        if table is None:
            raise DataError(f"no run can be used with law {fitted.law.name}, so there are no residuals to draw.")
        if exact is False:
            remarks.append("remark: these runs are not exactly those that the fit was made from")
    records = None if table is None else runs_of(table, _convention(fitted))
    made = make(kind, runs=records, fitted=fitted, optima=optima, request=request)
    return replace(made, remarks=tuple(remarks))


def draw_files(
    kind: str,
    sources: Sequence[Location],
    more_runs: Sequence[Location] = (),
    *,
    rows: str | None = None,
    request: Request | None = None,
) -> Made:
    """The same from files: among `sources` a JSON file is the fit, everything else are runs, as are `more_runs`."""
    check_kind(kind)
    fits = [place for place in sources if _is_json(place)]
    tables = [place for place in sources if not _is_json(place)] + list(more_runs)
    if len(fits) > 1:
        raise UsageError(f"{kind} shows one fit, and {len(fits)} JSON files were given.")
    wrong = next((place for place in more_runs if _is_json(place)), None)
    if wrong is not None:
        raise UsageError(f"--runs {wrong} is a JSON file; runs are folders, Parquet or CSV files.")
    check_sources(kind, fit=bool(fits), runs=True)
    path = Path(fits[0]) if fits else None
    fitted = None if path is None else FittedLaw.read(path)
    table = runs.read(tables) if tables else None
    return draw(kind, fitted=fitted, path=path, table=table, rows=rows, request=request)


def _is_json(place: Location) -> bool:
    return str(place).lower().endswith(".json")


def _convention(fitted: FittedLaw | None) -> str:
    return "total" if fitted is None else fitted.n_convention


def _optima(fitted: FittedLaw | None, table: pa.Table | None) -> list[MeasuredOptimum]:
    if table is not None:
        return measured_optima(table, n=_convention(fitted))
    return [] if fitted is None else recorded_optima(fitted)
