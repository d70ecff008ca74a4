"""The split figure shows every curve that a fit keeps, and charges the law what the score charges it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qatplan.errors import DataError, UsageError
from qatplan.figures.measured import Run
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


def test_a_second_phase_in_full_precision_is_shown_beside_its_curves(fitted: FittedLaw) -> None:
    """The better of two settings counts; another size and single points are not shown."""
    curve = next(c for bits, curves in split_figure(fitted).panels for c in curves if bits == 4)

    def control(fraction: float, loss: float, n: float = curve.n, bits: float = 16.0) -> Run:
        return Run(
            n=n, d_total=curve.d_total, fraction=fraction, bits=bits, schedule="classic", seed=0.0, variant=(),
            setting=(), loss=loss, loss_se=None,
        )  # fmt: skip

    runs = [control(0.1, 2.0), control(0.1, 2.5), control(0.4, 1.98), control(0.4, 1.0, bits=4.0)]
    series = split_figure(fitted, bits=(4.0,), runs=[*runs, control(0.1, 1.0, n=1e9), control(0.2, 1.1, n=1e9)])
    (shown,) = series.controls
    assert shown.fractions.tolist() == [0.1, 0.4]
    assert shown.above == pytest.approx([20.0, 0.0])
    assert "Grey, dashed: the same second phase in full precision." in series.notes
    (axes,) = draw(series).axes
    assert [line.get_linestyle() for line in axes.lines].count("--") == 1
    assert not split_figure(fitted, runs=[control(0.1, 2.0)]).controls
