"""Everything a report is made from: the fit, the runs it was fitted on where they are at hand, and their digests."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qatplan.errors import DataError
from qatplan.fitting.provenance import recorded_runs, rows_of_fit
from qatplan.laws.fitted import FittedLaw, Status
from qatplan.storage.base import Location

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a report is made from."""

    fitted: FittedLaw
    fit_name: str
    fit_digest: str
    """SHA-256 of the fit's file."""
    run_names: tuple[str, ...] = ()
    """Files or folders of runs, as they were named."""
    found: bool = False
    """True where the runs were not named but found by what the fit records."""
    table: pa.Table | None = None
    """All runs; None where none are at hand."""
    used: pa.Table | None = None
    """Those that the law is fitted on."""
    exact: bool | None = None
    """Whether these are exactly the rows that the fit was made from; None where that is not known."""

    @property
    def trusted(self) -> bool:
        """True where the fit passed its own checks."""
        return self.fitted.status is Status.GOOD

    def number(self, column: str, table: pa.Table | None = None) -> list[float]:
        """The known numbers of a column of the runs."""
        source = self.table if table is None else table
        if source is None:
            return []
        from qatplan import runs

        return [v for v in runs.columns(source, [column])[column].tolist() if not math.isnan(v)]

    def words(self, column: str) -> list[str]:
        """The different known values of a text column, ordered."""
        if self.table is None:
            return []
        return sorted({str(v) for v in self.table.column(column).to_pylist() if v is not None})


def gather(fit: Path, run_paths: Sequence[Location] = ()) -> Material:
    """Read the fit and the runs; without `run_paths`, the runs that the fit names, where all are still there.

    Raises DataError for files that cannot be used.
    """
    fitted = FittedLaw.read(fit)
    paths = list(run_paths) or recorded_runs(fitted, fit)
    made = Material(
        fitted=fitted,
        fit_name=str(fit),
        fit_digest=hashlib.sha256(fit.read_bytes()).hexdigest(),
        run_names=tuple(str(p) for p in paths),
        found=bool(paths) and not run_paths,
    )
    if not paths:
        return made
    from qatplan import runs

    table = runs.read(paths)
    if table.num_rows == 0:
        raise DataError(f"{paths[0]} holds no runs.")
    used, exact = rows_of_fit(fitted, table)
    return Material(**{**vars(made), "table": table, "used": used, "exact": exact})
