"""What a fit rests on: the rows by their digest, what they span, the versions, the command."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy

from qatplan import __version__
from qatplan.fitting.rows import Rows
from qatplan.laws.inputs import Floats


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
