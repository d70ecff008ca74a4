"""The split figure shows every curve that a fit keeps, and charges the law what the score charges it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qatplan.errors import DataError, UsageError
from qatplan.figures.split import draw, split_figure
from qatplan.fitting.curves import Curve
from qatplan.fitting.split.regret import regret
from qatplan.laws import FittedLaw
from qatplan.laws.fit_parts import FractionDiagnostics

FITS = Path(__file__).parents[2] / "fits"


@pytest.fixture(scope="module")
def fitted() -> FittedLaw:
    return FittedLaw.read(FITS / "fraction-surface.json")


def test_every_curve_is_there_and_costs_what_the_score_says(fitted: FittedLaw) -> None:
    series = split_figure(fitted)
    assert isinstance(fitted.diagnostics, FractionDiagnostics)
    shown = [curve for _, curves in series.panels for curve in curves]
    assert len(shown) == len(fitted.diagnostics.curves) == 55
    assert [bits for bits, _ in series.panels] == [1, 2, 3, 4, 6]
    for curve in shown:
        same = Curve(
            n=curve.n, d_total=curve.d_total, bits=4, group_size=np.nan, quantizer=None, seed=0, ends={},
            fraction=curve.fractions, loss=curve.above,
        )  # fmt: skip
        assert curve.chosen_above == pytest.approx(float(regret(same, curve.chosen)), abs=1e-9)
        assert curve.above.min() == 0


def test_bits_and_size_choose_curves(fitted: FittedLaw) -> None:
    series = split_figure(fitted, bits=(4.0,), params=50e3)
    ((bits, curves),) = series.panels
    assert bits == 4
    assert {round(curve.n, -4) for curve in curves} == {50_000}
    assert len(draw(series).axes) == 1
    with pytest.raises(DataError, match="keeps no curve"):
        split_figure(fitted, bits=(8.0,))


def test_other_fits_keep_no_curves() -> None:
    with pytest.raises(UsageError, match="this fit keeps none"):
        split_figure(FittedLaw.read(FITS / "qat-loss.json"))
