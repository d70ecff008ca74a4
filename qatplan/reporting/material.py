"""Everything a report is made from: the fit, the runs it was fitted on where they are at hand, and their digests."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qatplan import runs
from qatplan.errors import DataError
from qatplan.fitting.provenance import read_recorded, recorded_runs, rows_of_fit
from qatplan.laws.fitted import FittedLaw, Status
from qatplan.storage.base import Location

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a report is made from."""

    fitted: FittedLaw
    fit_name: str = "fit.json"
    fit_digest: str | None = None
    """SHA-256 of the fit's file; None for a fit that was not read from one."""
    run_names: tuple[str, ...] = ()
    """Files or folders of runs, as they were named."""
    found: bool = False
    """True where the runs were not named but found by what the fit records."""
    remark: str = ""
    """What a reader should know of runs that the fit names."""
    table: pa.Table | None = None
    """All runs; None where none are at hand."""
    used: pa.Table | None = None
    """Those that the law is fitted on."""
    exact: bool | None = None
    """Whether these are exactly the rows that the fit was made from; None where that is not known."""
    split: FittedLaw | None = None
    """A fit of a fraction law with measured curves, against which the plan's split is held."""
    split_name: str = "split.json"

    @property
    def trusted(self) -> bool:
        """True where the fit passed its own checks."""
        return self.fitted.status is Status.GOOD

    @property
    def run_options(self) -> list[str]:
        """Runs and split as options of a command line."""
        split = [] if self.split is None else ["--split", self.split_name]
        return [*(word for name in self.run_names for word in ("--runs", name)), *split]

    def number(self, column: str, table: pa.Table | None = None) -> list[float]:
        """The known numbers of a column of the runs."""
        source = self.table if table is None else table
        if source is None:
            return []
        return [v for v in runs.columns(source, [column])[column].tolist() if not math.isnan(v)]

    def words(self, column: str) -> list[str]:
        """The different known values of a text column, ordered."""
        if self.table is None:
            return []
        return sorted({str(v) for v in self.table.column(column).to_pylist() if v is not None})


def gather(
    fitted: FittedLaw, *, path: Path | None = None, table: pa.Table | None = None, names: Sequence[Location] = (),
    split: FittedLaw | None = None, split_path: Path | None = None,
) -> Material:  # fmt: skip
    """A fit with its runs: those of `table`, which were read from `names`, or else those that the fit names.

    `path` is the file of the fit, `split_path` that of `split`. Raises DataError for runs that cannot be used.
    """
    found = False
    remark = ""
    if table is None and path is not None:
        table, remark = read_recorded(fitted, path)
        found = table is not None
        names = recorded_runs(fitted, path) if found else names
    if table is not None and table.num_rows == 0:
        raise DataError(f"{names[0] if names else 'the table'} holds no runs.")
    used, exact = (None, None) if table is None else rows_of_fit(fitted, table)
    return Material(
        fitted=fitted, fit_name="fit.json" if path is None else str(path),
        fit_digest=None if path is None else hashlib.sha256(path.read_bytes()).hexdigest(),
        run_names=tuple(map(str, names)), found=found, remark=remark, table=table, used=used, exact=exact,
        split=split, split_name="split.json" if split_path is None else str(split_path),
    )  # fmt: skip
