"""104 real runs of another group (QuEST, MIT licence), where their table is at hand; it is not shipped here."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from qatplan.fitting.api import fit
from qatplan.fitting.compare import compare
from qatplan.fitting.options import FitOptions

TABLE = Path(__file__).parents[3] / "shared" / "data" / "external" / "quest_runs.csv"

pytestmark = pytest.mark.skipif(not TABLE.exists(), reason="the external table is not at hand")


def columns() -> dict[str, object]:
    """The table under our names; 16 bits is full precision, and the bits that are really used count."""
    with TABLE.open() as stream:
        rows = list(csv.DictReader(stream))
    bits = np.array([float(r["w_bits_effective"]) for r in rows])
    return {
        "n_total": [float(r["N_nonemb"]) for r in rows],
        "d_fp": [float(r["D_fp"]) for r in rows],
        "d_qat": [float(r["D_qat"]) for r in rows],
        "bits": np.where(bits == 16, np.nan, bits),
        "loss": [float(r["loss"]) for r in rows],
        "quantizer": [r["w_quant"] + "/" + r["a_quant"] for r in rows],
    }


def test_effective_parameters_fit_and_the_irreducible_loss_is_not_claimed() -> None:
    fitted = fit(columns(), FitOptions(law="effective", interval="profile"))
    assert fitted.rows == 104
    assert fitted.status == "good"
    assert any("E was driven to 0" in f for f in fitted.flags)
    assert any("tokens per parameter take only 3 values" in s for s in fitted.identifiability)
    factors = [fitted.params[f"eff_{b}"] for b in (1, 2, 3, 4, 8)]
    assert factors == sorted(factors)
    assert fitted.intervals["E"][1] > 0.1
    assert any("several quantizers" in f for f in fitted.flags)


def test_qat_loss_restricted_to_what_the_runs_can_say() -> None:
    fitted = fit(columns(), FitOptions(law="qat-loss", restrict=True))
    assert fitted.rows == 104
    assert fitted.params["lam"] == 0
    said = " ".join([*fitted.identifiability, *fitted.flags])
    assert "D_fp = 0" in said
    assert "E is not determined" in said or "E was driven to 0" in said


def test_laws_are_ranked_on_the_largest_models() -> None:
    result = compare(columns(), laws=("effective", "chinchilla", "chinchilla-per-bits"), holdout="largest-n")
    assert result.entries[-1].law == "chinchilla"
    assert result.entries[0].mape is not None
    assert result.entries[0].mape < 0.03
