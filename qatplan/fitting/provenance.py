"""What a fit rests on: its rows by their digest, what they span, the versions, the command; and the rows refound."""

from __future__ import annotations

import hashlib
import itertools
import json
import platform
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy

from qatplan import __version__
from qatplan.errors import DataError
from qatplan.fitting.rows import Rows, select
from qatplan.laws.fit_parts import Pair, Provenance
from qatplan.laws.fitted import FittedLaw
from qatplan.laws.inputs import Floats
from qatplan.runs import read
from qatplan.runs.schema import CONTROL_BITS
from qatplan.storage.base import Location, is_remote, seen_from

if TYPE_CHECKING:
    import pyarrow as pa


def ranges(rows: Rows) -> dict[str, Pair]:
    """Smallest and largest value that the fit has seen."""
    x = rows.x
    # A second phase in full precision says nothing about plans of so many bits.
    q = x.quantized & (x.bits != CONTROL_BITS)
    result = {"n": _range(x.n), "d_total": _range(x.d_total)}
    if q.any():
        result |= {"bits": _range(x.bits[q]), "fraction": _range(x.fraction[q]), "s_total": _range(x.s_total[q])}
    return result


def provenance(chosen: Rows, *, seed: int, sources: Sequence[str], command: str | None, rows: str | None) -> Provenance:
    """What was fitted by what: versions, digest of the rows used, seed, command."""
    return Provenance(
        qatplan=__version__,
        python=platform.python_version(),
        numpy=np.__version__,
        scipy=scipy.__version__,
        rows_digest=_digest(chosen),
        row_expression=rows,
        sources=tuple(sources),
        seed=seed,
        command=command,
    ).public()


def recorded_runs(fitted: FittedLaw, path: Path) -> list[Location]:
    """The runs that a fit says it was made from, seen from here or from the fit's folder; none unless all are there.

    Only local ones: whoever made the fit does not choose which store a reader contacts.
    """
    return seen_from((Path(), path.parent, path.parent.parent), fitted.sources)


def read_recorded(fitted: FittedLaw, path: Path) -> tuple[pa.Table | None, str]:
    """(the runs that a fit names, None where they are not at hand or of no use; what a reader should know of that)."""
    stores = [name for name in fitted.sources if is_remote(name)]
    if stores:
        return None, f"the fit names runs at {', '.join(stores)}, which are only opened where --runs asks for it"
    found = recorded_runs(fitted, path)
    if not found:
        return None, ""
    names = ", ".join(map(str, found))
    try:
        return read(found), f"runs: {names} (named by the fit; choose others with --runs)"
    except (DataError, OSError) as error:
        why = str(error).rstrip(".")
        return None, f"the runs that the fit names ({names}) cannot be used: {why}; choose others with --runs"


def rows_of_fit(fitted: FittedLaw, table: pa.Table) -> tuple[pa.Table | None, bool | None]:
    """(the runs of a table that the fit's law is fitted on, whether they are exactly those that the fit was made from).

    The runs are None where the law can use none; the answer is None where the fit records no digest of its rows.

    Options that chose the rows are not all recorded, but they show: parameters fixed at 0, which widen a law's domain,
    in the values, though terms without rows are at 0 too; runs of other tunings in the digest alone. Among the ways to
    choose that this leaves, the one that gives the digest is the fit's; without any the first serves.
    """
    made, law = fitted.provenance, fitted.law
    expression, digest = (None, None) if made is None else (made.row_expression, made.rows_digest)
    zeros = {name: value for name, value in fitted.fixed.items() if value == 0}
    first: Rows | None = None
    same = partial(select, table, law.name, shape=type(law), expression=expression, n=fitted.n_convention)
    for fix, keep_tuning in itertools.product((zeros, {}) if zeros else ({},), (False, True)):
        try:
            chosen = same(fix=fix, keep_tuning=keep_tuning)
        except DataError:
            continue
        if digest is None or _digest(chosen) == digest:
            return _taken(table, chosen), None if digest is None else True
        first = first or chosen
    return None if first is None else _taken(table, first), False


def _taken(table: pa.Table, rows: Rows) -> pa.Table:
    import pyarrow as arrow
    import pyarrow.compute as pc

    return table.filter(pc.is_in(table.column("run_id"), value_set=arrow.array(rows.run_id)))


def _digest(rows: Rows) -> str:
    x = rows.x
    lines = sorted(
        json.dumps([r, *(repr(float(v)) for v in values)])
        for r, *values in zip(rows.run_id, x.n, x.d_fp, x.d_qat, x.bits, rows.y, strict=True)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _range(values: Floats) -> Pair:
    return float(values.min()), float(values.max())
