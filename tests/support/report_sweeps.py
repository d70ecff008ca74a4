"""A small simulated sweep with a fit that knows its rows, for the tests of the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from qatplan import runs
from qatplan.fitting.provenance import provenance, ranges
from qatplan.fitting.rows import select
from qatplan.laws import FittedLaw, QatLoss, Status
from qatplan.laws.fit_parts import Certificate, Score
from support.figure_sweeps import TRUTH, simulated_rows

HOSTILE = '<script>alert("x")</script> & co'


def write_runs(path: Path, **changes: Any) -> None:
    """Runs of two sizes with two diverged ones, named so that a page that does not escape shows it."""
    rows = simulated_rows(
        sizes=(32_000, 96_000), ratios=(30.0, 300.0), bits=(2.0, 4.0), fractions=(0.0, 0.03, 0.1, 0.3, 0.6, 1.0),
        diverge=frozenset({(2.0, 0.03)}),
    )  # fmt: skip
    known = {"corpus": HOSTILE, "sequence": 128, "width": 32, "torch_version": "2.13.0", "device": "cpu"} | changes
    runs.write(runs.table([row | known for row in rows]), path)


def fit_of(path: Path, *, status: Status = Status.GOOD, **changes: Any) -> FittedLaw:
    """The truth as if it had been fitted on those runs, with 40 draws."""
    chosen = select(runs.read([path]), "qat-loss", shape=QatLoss)
    values = np.array(list(TRUTH.params().values()))
    draws = values * (1 + 0.01 * np.random.default_rng(0).standard_normal((40, values.size)))
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    fields: dict[str, Any] = {
        "law": TRUTH,
        "draws": draws,
        "intervals": dict(zip(TRUTH.params(), zip(low.tolist(), high.tolist(), strict=True), strict=True)),
        "interval_kind": "bootstrap",
        "rows": len(chosen),
        "left_out": chosen.left_out,
        "status": status,
        "certificate": Certificate(starts=16, starts_agreeing=12),
        "objective": 0.00123,
        "noise": 0.0015,
        "seed_noise": 0.0011,
        "flags": (f"{HOSTILE} is a flag",),
        "identifiability": ("rho is hardly determined (0.05, 95 % interval 0 to 1.4)",),
        "holdout": Score(kind="largest-n", rows=20, fitted_rows=22, mape=0.0123, max_ape=0.031, bias=-0.004,
                         worst_run="run00042"),
        "ranges": ranges(chosen),
        "provenance": provenance(chosen, seed=3, sources=[path.name], command="qatplan fit runs.parquet", rows=None),
    }  # fmt: skip
    return FittedLaw(**{**fields, **changes})
