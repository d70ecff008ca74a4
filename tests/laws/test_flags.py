"""Flags of a fit: every sentence is read back as what it is, and the weightiest come first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qatplan.laws.flags import Flag, by_weight

FITS = Path(__file__).parents[2] / "fits"
VALUES = {
    "status": "not-converged", "message": "the gradient is not small", "error": "no row can be used: D_fp = 0",
    "name": "rho", "why": ": the rows show no such term", "end": "grew to", "value": 0.0, "lower": 0.0, "upper": 4.0,
    "sd": 0.013, "ratio": 1.8, "seeds": 0.007, "freedom": 36, "rows": 20, "parameters": 16, "bits": "2, 4",
    "gap": 0.37, "mae": 0.12, "published": (0.07, 0.1), "ends": 3, "all": 9, "short": 2, "trunks": 6,
    "effect": 0.0097, "delta": 1e-4, "share": 0.01, "unfinished": 90, "draws": 1000, "how": "grows", "rank": 0.9,
    "curves": 12, "few": 2, "most": 9, "sizes": "1000, 2000", "column": "n_total", "points": 8, "what": "sizes",
    "left_out": 2, "least": 5000,
}  # fmt: skip


@pytest.mark.parametrize("flag", Flag)
def test_a_sentence_is_read_back_as_its_flag(flag: Flag) -> None:
    # Both sentences about few trunks begin alike, and weigh the same.
    expected = Flag.FEW_TRUNKS if flag is Flag.FEW_TRUNKS_ALONE else flag
    values = VALUES | ({"error": 0.02, "all": 0.05} if flag is Flag.BENT else {})
    assert Flag.of(flag(**values)) is expected


@pytest.mark.parametrize("name", ["qat-loss", "chinchilla", "qat-fraction"])
def test_flags_of_shipped_fits_are_known(name: str) -> None:
    flags = json.loads((FITS / f"{name}.json").read_text())["flags"]
    assert flags
    assert None not in [Flag.of(flag) for flag in flags]


def test_the_weightiest_come_first_and_foreign_ones_last() -> None:
    said = ["from another version", Flag.TREND(**VALUES), Flag.AT_BOUND(**VALUES), Flag.UNTRUSTED(**VALUES)]
    assert by_weight(said) == said[::-1]
