"""The optimal fraction against tokens per parameter byte."""

from __future__ import annotations

import numpy as np
import pytest
from support.figure_sweeps import TRUTH

from qatplan.errors import DataError
from qatplan.figures.fraction import apart, draw, fraction_figure
from qatplan.figures.style import render
from qatplan.fitting.curves import MeasuredOptimum
from qatplan.laws.optimum import optimal_fraction
from qatplan.laws.predictor import Predictor
from qatplan.laws.qat_fraction import QatFraction


def optimum(s_total: float, fraction: float, bits: float = 4.0, end: int = 0) -> MeasuredOptimum:
    n = 1e5
    return MeasuredOptimum(
        n=n,
        d_total=s_total * n * bits / 8,
        bits=bits,
        fraction=fraction,
        low=0.8 * fraction,
        high=1.1 * fraction,
        end=end,
    )


def test_tokens_per_parameter_byte() -> None:
    item = MeasuredOptimum(n=1e6, d_total=1e8, bits=4.0, fraction=0.3, low=0.2, high=0.4)
    assert item.s_total == pytest.approx(200.0)


def test_published_line_has_the_published_values() -> None:
    series = fraction_figure([optimum(10.0, 0.1), optimum(1e4, 0.5)])
    at = np.interp(np.log([20.0, 100.0, 1e3, 1e4]), np.log(series.s_total), series.published)
    assert at == pytest.approx([0.106, 0.232, 0.378, 0.482], abs=6e-4)


def test_refitted_line_and_its_band() -> None:
    draws = np.linspace(4.0, 6.0, 201)[:, None]
    series = fraction_figure([optimum(100.0, 0.3)], Predictor(law=QatFraction(a=5.0), draws=draws, level=0.9))
    assert series.refitted is not None
    assert series.refitted.low is not None
    assert series.refitted.high is not None
    assert series.refitted_a == 5.0
    s = series.s_total
    assert series.refitted.value == pytest.approx(np.exp(-5.0 / np.log(s)))
    assert series.refitted.low == pytest.approx(np.exp(-5.909 / np.log(s)))
    assert series.refitted.high == pytest.approx(np.exp(-4.091 / np.log(s)))


def test_path_of_a_loss_law_is_its_optimum() -> None:
    series = fraction_figure((), Predictor(law=TRUTH), sizes=[1e5], bits=[2.0, 4.0], tokens=(1e6, 1e8))
    assert [p.bits for p in series.paths] == [2.0, 4.0]
    path = series.paths[1]
    d_total = path.s_total * 1e5 * 4 / 8
    assert d_total[[0, -1]] == pytest.approx([1e6, 1e8])
    assert path.fraction.value == pytest.approx(optimal_fraction(TRUTH, n=1e5, d_total=d_total, bits=4.0).fraction)


def test_title_states_trend_and_distance() -> None:
    rising = [optimum(s, float(np.exp(-6.7297 / np.log(s))) + 0.1) for s in (20.0, 100.0, 500.0)]
    falling = [optimum(s, f) for s, f in ((20.0, 0.5), (100.0, 0.4), (500.0, 0.3))]
    assert "grows" in fraction_figure(rising).title
    assert "rank correlation 1.00" in fraction_figure(rising).title
    assert "mean distance from the published law 0.10" in fraction_figure(rising).title
    assert "falls" in fraction_figure(falling).title
    assert "rank correlation -1.00" in fraction_figure(falling).title


def test_optima_at_an_end_do_not_enter_the_title_but_a_note() -> None:
    items = [optimum(s, 0.3) for s in (20.0, 100.0)] + [optimum(500.0, 0.9, end=1)]
    series = fraction_figure(items)
    assert "correlation" not in series.title
    assert any("Hollow" in note for note in series.notes)


def test_nothing_measured_and_no_law_is_refused() -> None:
    with pytest.raises(DataError, match="no curve"):
        fraction_figure([])


def test_drawing_names_what_it_shows() -> None:
    law = Predictor(law=QatFraction(a=5.13))
    svg = render(draw(fraction_figure([optimum(50.0, 0.2), optimum(80.0, 0.9, bits=2.0, end=1)], law)), "svg").decode()
    for words in ("published law, a = 6.7297", "refitted law, a = 5.13", "2-bit", "4-bit", "Tokens per parameter byte",
                  "Optimal QAT fraction"):  # fmt: skip
        assert words in svg, words


def test_measured_points_below_the_law_s_domain_are_drawn() -> None:
    assert render(draw(fraction_figure([optimum(0.5, 0.2)])), "png").startswith(b"\x89PNG")


def test_equal_places_are_fanned_out_in_order_and_others_left_alone() -> None:
    places = apart([100.0, 300.0, 100.5, 1000.0], reach=0.1)
    assert places[1] == 300.0
    assert places[3] == 1000.0
    assert places[0] == pytest.approx(100.0 * np.exp(-0.05))
    assert places[2] == pytest.approx(100.5 * np.exp(0.05))
