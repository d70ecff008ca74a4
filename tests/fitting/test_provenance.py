"""The rows of a fit, found again in a table by what the fit records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from qatplan import runs
from qatplan.fitting.api import fit
from qatplan.fitting.options import FitOptions
from qatplan.fitting.provenance import recorded_runs, rows_of_fit
from qatplan.laws import Inputs, QatLoss

LAW = QatLoss(
    E=1.8, A=480.0, alpha=0.35, C=2000.0, beta=0.37, theta=0.25, kappa=1.2, phi=4.0, chi=0.7, psi=0.12, omega=0.45,
    lam=0.0, mu=0.6, nu=0.1, xi=0.6, rho=0.15,
)  # fmt: skip


def table(interaction: int) -> pa.Table:
    """Full precision, QAT from scratch at several bits, and a few runs with both phases; every fourth point twice."""
    rows = []
    points = [(n, d) for n in (1e8, 3e8, 9e8, 2e9) for d in (5e9, 2e10, 8e10)]
    for bits in (None, 2.0, 3.0, 4.0):
        rows += [{"n": n, "d": d, "bits": bits, "fraction": 1.0 if bits else 0.0} for n, d in points]
    rows += [{"n": n, "d": d, "bits": 4.0, "fraction": 0.5} for n, d in points[:interaction]]
    rows += [{**row, "rate": 0.3} for row in rows[::4]]
    x = Inputs.of(
        n=[r["n"] for r in rows], d_total=[r["d"] for r in rows], bits=[r["bits"] or np.nan for r in rows],
        fraction=[r["fraction"] for r in rows],
    )  # fmt: skip
    loss = LAW.predict(x) * np.exp(0.001 * np.random.default_rng(0).standard_normal(len(rows)))
    return runs.table(
        {
            "run_id": f"r{i}", "n_total": int(r["n"]), "d_total": int(r["d"]),
            "d_fp": int(r["d"]) - int(r["fraction"] * r["d"]), "d_qat": int(r["fraction"] * r["d"]),
            "bits": r["bits"], "schedule": "classic" if r["bits"] else "full-precision", "loss": float(loss[i]),
            "status": "finished", "seed": 0, "learning_rate": r.get("rate", 0.1),
        }
        for i, r in enumerate(rows)
    )  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        FitOptions(fix={"lam": 0.0}),
        FitOptions(fix={"lam": 0.0, "theta": 0.0}, interval="profile"),
        FitOptions(fix={"lam": 0.0}, keep_tuning=True),
        FitOptions(law="chinchilla", rows="bits is null and n_total > 200000000"),
        FitOptions(law="chinchilla-per-bits", rows="bits == 4", n="total"),
    ],
)
def test_rows_are_chosen_as_the_fit_did(options: FitOptions) -> None:
    made = table(interaction=0)
    fitted = fit(made, options)
    found, same = rows_of_fit(fitted, made)
    assert same is True
    assert found is not None
    assert found.num_rows == fitted.rows


def test_a_term_left_out_for_want_of_rows_does_not_widen_the_rows() -> None:
    """lam is 0 because two runs with both phases are too few, not because it was fixed: D_fp = 0 stays outside."""
    made = runs.select(table(interaction=2), "bits is null or fraction == 0.5 or bits == 4")
    fitted = fit(made, FitOptions(restrict=True))
    assert fitted.params["lam"] == 0
    found, same = rows_of_fit(fitted, made)
    assert same is True
    assert found is not None
    assert found.num_rows == fitted.rows


def test_other_runs_are_told_and_no_runs_are_none() -> None:
    made = table(interaction=0)
    fitted = fit(made, FitOptions(law="chinchilla"))
    found, same = rows_of_fit(fitted, made.slice(0, 10))
    assert same is False
    assert found is not None
    assert found.num_rows == 10
    assert rows_of_fit(fitted, runs.select(made, "bits == 4")) == (None, False)
    assert rows_of_fit(replace(fitted, provenance=None), made)[1] is None


def test_runs_are_found_from_the_folder_of_the_fit(tmp_path: Path) -> None:
    runs.write(table(interaction=0), tmp_path / "runs.parquet")
    fitted = fit(table(interaction=0), FitOptions(law="chinchilla"), sources=["runs.parquet"])
    assert recorded_runs(fitted, tmp_path / "fit.json") == [tmp_path / "runs.parquet"]
    assert recorded_runs(fitted, tmp_path / "other" / "deep" / "er" / "fit.json") == []
