"""What a fit rests on: the rows by their digest, what they span, the versions, the command."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from qatplan import __version__
from qatplan.errors import DataError
from qatplan.fitting.rows import Rows, select
from qatplan.laws.fitted import FittedLaw
from qatplan.laws.inputs import Floats
from qatplan.storage.base import Location, seen_from

if TYPE_CHECKING:
    import pyarrow as pa


def ranges(rows: Rows) -> dict[str, tuple[float, float]]:
    """Smallest and largest value that the fit has seen."""
    x, q = rows.x, rows.x.quantized
    result = {"n": _range(x.n), "d_total": _range(x.d_total)}
    if q.any():
        result |= {"bits": _range(x.bits[q]), "fraction": _range(x.fraction[q]), "s_total": _range(x.s_total[q])}
    return result


def provenance(
    chosen: Rows, *, seed: int, sources: Sequence[str], command: str | None, rows: str | None
) -> dict[str, Any]:
    """What was fitted by what: versions, digest of the rows used, seed, command."""
    x = chosen.x
    lines = sorted(
        json.dumps([r, *(repr(float(v)) for v in values)])
        for r, *values in zip(chosen.run_id, x.n, x.d_fp, x.d_qat, x.bits, chosen.y, strict=True)
    )
    return {
        "qatplan": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "rows_digest": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        "row_expression": rows,
        "sources": list(sources),
        "seed": seed,
        "command": command,
    }


def _range(values: Floats) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def recorded_runs(fitted: FittedLaw, path: Path) -> list[Location]:
    """The runs that a fit says it was made from, seen from here or from the fit's folder; none unless all are there."""
    return seen_from((Path(), path.parent, path.parent.parent), fitted.provenance.get("sources") or [])


def rows_of_fit(fitted: FittedLaw, table: pa.Table) -> tuple[pa.Table | None, bool | None]:
    """(the runs of a table that the fit's law is fitted on, whether they are exactly those that the fit was made from).

    The runs are None where the law can use none; the answer is None where the fit records no digest.
    """
    import pyarrow as arrow
    import pyarrow.compute as pc

    made, law = fitted.provenance, fitted.law
    expression = made.get("row_expression")
    # An amplitude fixed at 0 takes its term out, which widens the law's domain.
    fixed = {name: v for name, v in fitted.params.items() if v == 0 and name not in fitted.intervals}
    try:
        chosen = select(table, law.name, shape=type(law), expression=expression, n=fitted.n_convention, fix=fixed)
    except DataError:
        return None, False
    digest = provenance(chosen, seed=0, sources=(), command=None, rows=expression)["rows_digest"]
    known = made.get("rows_digest")
    rows = table.filter(pc.is_in(table.column("run_id"), value_set=arrow.array(chosen.run_id)))
    return rows, None if known is None else known == digest
