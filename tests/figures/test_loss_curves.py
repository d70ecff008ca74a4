"""Curves of loss against the fraction: grouping, minima, controls, limits, and what the drawing says."""

from __future__ import annotations

import numpy as np
import pytest
from support.figure_sweeps import FRACTIONS, TRUTH, simulated_rows

from qatplan import runs
from qatplan.errors import DataError
from qatplan.figures.loss_curves import Point, loss_curves, measured_curves
from qatplan.figures.loss_curves_drawing import draw, loss_limits
from qatplan.figures.measured import Run, runs_of
from qatplan.figures.style import render
from qatplan.laws.inputs import Inputs
from qatplan.laws.predictor import Predictor


def a_run(fraction: float, loss: float | None, **more: object) -> Run:
    values: dict[str, object] = {
        "n": 1e5, "d_total": 1e7, "bits": 4.0, "schedule": "classic", "seed": 0.0, "variant": (), "setting": (),
        "loss_se": None,
    }  # fmt: skip
    return Run(**(values | more), fraction=fraction, loss=loss)  # type: ignore[arg-type]


CURVE = (
    a_run(0.0, 1.20, bits=None, schedule="full-precision"),
    a_run(0.0, 1.60, schedule="post-training"),
    a_run(0.1, 1.32),
    a_run(0.3, 1.28),
    a_run(0.5, 1.30),
    a_run(1.0, 1.40),
)


def test_points_minimum_and_control_of_a_curve() -> None:
    (curve,) = measured_curves(CURVE)
    assert [(p.fraction, p.loss) for p in curve.points] == [
        (0.0, 1.60),
        (0.1, 1.32),
        (0.3, 1.28),
        (0.5, 1.30),
        (1.0, 1.40),
    ]
    assert curve.control == 1.20
    assert curve.minimum is not None
    assert (curve.minimum.fraction, curve.minimum.loss) == (0.3, 1.28)
    assert curve.interior


def test_a_second_phase_in_full_precision_is_a_curve_of_its_own_that_no_law_is_drawn_over() -> None:
    control = [a_run(f, loss, bits=16.0) for f, loss in ((0.1, 1.24), (0.3, 1.21), (0.5, 1.23))]
    series = loss_curves([*CURVE, *control], Predictor(law=TRUTH))
    four, sixteen = (panel.curves[0] for row in series.rows for panel in row if panel is not None)
    assert (four.bits, four.fitted is None) == (4.0, False)
    assert (sixteen.bits, sixteen.fitted, len(sixteen.points)) == (16.0, None, 3)
    assert series.title == "Loss is lowest at a QAT fraction near 0.3", "one curve is judged"
    assert "16-bit: the second phase in full precision" in series.notes[0]
    assert b"16-bit" in render(draw(series), "svg")


def test_minimum_at_an_end_is_not_interior() -> None:
    (curve,) = measured_curves([a_run(0.1, 1.5), a_run(0.3, 1.4), a_run(0.5, 1.3)])
    assert curve.minimum is not None
    assert not curve.interior


def test_two_finished_fractions_have_no_minimum() -> None:
    (curve,) = measured_curves([a_run(0.1, 1.5), a_run(0.3, 1.4), a_run(0.5, None)])
    assert curve.minimum is None


def test_best_setting_is_kept_and_said_so() -> None:
    tried = [a_run(0.1, 1.5, setting=("qat_learning_rate 1",)), a_run(0.1, 1.45, setting=("qat_learning_rate 0.3",))]
    series = loss_curves([*CURVE, *tried])
    assert series.curves[0].points[1].loss == 1.32
    assert "Where several settings were tried at a fraction, the best counts" in series.notes[0]


def test_settings_below_the_best_are_not_mentioned_when_there_is_one_each() -> None:
    assert "several settings" not in loss_curves(CURVE).notes[0]


def test_seeds_schedules_and_methods_are_curves_of_their_own() -> None:
    other = [
        a_run(0.3, 1.27, seed=1.0),
        a_run(0.3, 1.26, schedule="fused"),
        a_run(0.3, 1.25, variant=("group_size 64",)),
    ]
    assert len(measured_curves([*CURVE, *other])) == 4


def test_methods_of_rounding_are_one_point_the_best_and_said_so() -> None:
    losses = {"rtn": 1.45, "adaround": 1.38}
    methods = [a_run(0.0, loss, schedule="post-training", post_training=name) for name, loss in losses.items()]
    (curve,) = measured_curves([CURVE[0], *CURVE[2:], *methods])
    assert curve.points[0] == Point(fraction=0.0, loss=1.38)
    assert [point.loss for point in curve.beaten] == [1.45]
    assert curve.methods == ("adaround", "rtn")
    assert "the best of adaround, rtn" in loss_curves([*CURVE, *methods]).notes[0]
    assert "the best of" not in loss_curves(CURVE).notes[0]


def test_a_rounded_model_joins_the_curve_of_its_own_quantizer() -> None:
    mine, other = ("quantizer lsq",), ("quantizer min-max",)
    runs = [a_run(0.3, 1.27, variant=v) for v in (mine, other)]
    named = [a_run(0.0, 1.5, schedule="post-training", variant=mine)]
    found = {c.variant: [p.fraction for p in c.points] for c in measured_curves([*runs, *named])}
    assert found == {mine: [0.0, 0.3], other: [0.3]}
    unnamed = [a_run(0.0, 1.5, schedule="post-training")]
    found = {c.variant: [p.fraction for p in c.points] for c in measured_curves([*runs, *unnamed])}
    assert found == {mine: [0.0, 0.3], other: [0.0, 0.3]}


def test_models_only_rounded_are_no_schedule_of_the_legend() -> None:
    drawn = draw(loss_curves([*CURVE, a_run(0.0, 1.5, bits=3.0, schedule="post-training")]))
    labels = [text.get_text() for axes in drawn.axes if (legend := axes.get_legend()) for text in legend.get_texts()]
    assert "full precision" in labels
    assert not [label for label in labels if "post-training" in label]


def test_control_of_another_seed_is_the_mean() -> None:
    controls = [a_run(0.0, loss, bits=None, schedule="full-precision", seed=s) for loss, s in ((1.2, 0.0), (1.3, 1.0))]
    curves = measured_curves([*controls, a_run(0.3, 1.4, seed=1.0), a_run(0.3, 1.4, seed=2.0)])
    assert [c.control for c in curves] == [1.3, pytest.approx(1.25)]


def test_only_rounded_models_still_make_a_curve() -> None:
    (curve,) = measured_curves(CURVE[:2])
    assert curve.schedule == "post-training"


def test_title_reports_the_range_of_minima() -> None:
    second = [a_run(f, loss, d_total=2e7) for f, loss in ((0.1, 1.2), (0.3, 1.3), (0.5, 1.4))]
    third = [a_run(f, loss, d_total=4e7) for f, loss in ((0.1, 1.2), (0.5, 1.1), (1.0, 1.4))]
    assert loss_curves(CURVE).title == "Loss is lowest at a QAT fraction near 0.3"
    title = loss_curves([*CURVE, *second, *third]).title
    assert title == "Loss is lowest at QAT fractions of 0.3 to 0.5 (2 of 3 curves have an interior minimum)"


def test_full_precision_alone_has_nothing_to_draw() -> None:
    with pytest.raises(DataError, match="no run has bits"):
        loss_curves(CURVE[:1])


def test_layouts_place_panels() -> None:
    table = runs_of(runs.table(simulated_rows(sizes=(32_000, 96_000), bits=(2.0, 4.0))))
    assert [[(p.n, p.bits) for p in row if p] for row in loss_curves(table).rows] == [
        [(32_000, 2.0), (32_000, 4.0)],
        [(96_000, 2.0), (96_000, 4.0)],
    ]
    assert [[(p.n, p.bits) for p in row if p] for row in loss_curves(table, layout="bits").rows] == [
        [(None, 2.0), (None, 4.0)]
    ]


def test_fitted_curve_is_the_law_and_its_optimum_is_its_lowest_point() -> None:
    table = runs_of(runs.table(simulated_rows(sizes=(96_000,), ratios=(90.0,), bits=(4.0,), noise=0.0)))
    (curve,) = loss_curves(table, Predictor(law=TRUTH)).curves
    fit = curve.fitted
    assert fit is not None
    assert fit.optimum is not None
    assert fit.optimum_loss == pytest.approx(float(np.min(fit.loss.value)), abs=1e-4)
    assert fit.optimum == pytest.approx(float(fit.fraction[np.argmin(fit.loss.value)]), abs=0.03)


def test_limits_cut_a_rounded_model_but_keep_the_curve() -> None:
    low, high = loss_limits(measured_curves(CURVE))
    assert low < 1.20  # the control is near enough to be included
    assert 1.32 < high < 1.60


def test_limits_leave_out_a_control_far_below() -> None:
    far = (a_run(0.0, 0.5, bits=None, schedule="full-precision"), *CURVE[2:])
    low, _ = loss_limits(measured_curves(far))
    assert low > 1.0


def test_drawing_names_what_it_shows() -> None:
    rows = simulated_rows(sizes=(96_000,), ratios=(30.0, 90.0), bits=(1.0, 4.0), schedules=("classic", "fused"),
                          diverge=frozenset({(1.0, 0.75)}))  # fmt: skip
    svg = render(draw(loss_curves(runs_of(runs.table(rows)))), "svg").decode()
    for words in ("1-bit, N = 96K", "4-bit, N = 96K", "D_total 2.88M", "D_total 8.64M", "full precision",
                  "fused (hollow)", "lowest point", "4 diverged runs are marked × at the top edge."):  # fmt: skip
        assert words in svg, words


def test_drawing_survives_a_single_point_and_all_diverged() -> None:
    for table in ([a_run(0.3, 1.4)], [a_run(0.3, None), a_run(0.5, None)], [a_run(1.0, 1.4)]):
        assert render(draw(loss_curves(table)), "png").startswith(b"\x89PNG")


def test_drawing_is_deterministic_on_a_large_sweep() -> None:
    table = runs_of(runs.table(simulated_rows(sizes=(32_000, 64_000), bits=(1.0, 2.0, 4.0), seeds=(0, 1))))
    assert render(draw(loss_curves(table)), "svg") == render(draw(loss_curves(table)), "svg")


def test_runs_of_a_table_carry_what_is_needed() -> None:
    table = runs.table(simulated_rows(sizes=(96_000,), ratios=(90.0,), bits=(4.0,)))
    records = runs_of(table)
    assert len(records) == 1 + len(FRACTIONS)
    assert records[0].bits is None
    assert [r.fraction for r in records[1:]] == pytest.approx(FRACTIONS, abs=1e-6)
    assert records[-1].variant == ("quantizer paretoq",)
    assert records[-1].setting == ("learning_rate 0.003", "qat_learning_rate 0.5")
    assert {r.n for r in runs_of(table, "nonembedding")} == {96_000 - 8192}


def test_budgets_that_differ_by_rounding_are_one_curve() -> None:
    rounded = [
        a_run(0.0, 1.2, bits=None, schedule="full-precision", d_total=1.000e7),
        *(a_run(f, 1.3, d_total=d) for f, d in ((0.1, 0.995e7), (0.3, 1.001e7), (0.5, 1.004e7), (0.4, 1.2e7))),
    ]
    curves = measured_curves(rounded)
    assert [(len(c.points), c.d_total) for c in curves] == [(3, 1.001e7), (1, 1.2e7)]
    assert curves[0].control == 1.2


def test_relative_losses_are_above_the_control() -> None:
    alone = a_run(0.3, 1.5, n=2e5)
    series = loss_curves([*CURVE, alone], relative=True)
    assert [p.loss for p in series.curves[0].points] == pytest.approx([0.40, 0.12, 0.08, 0.10, 0.20])
    assert series.notes[-1] == "1 of 2 curves have no full-precision run and are not shown."
    assert "Loss above full precision" in render(draw(series), "svg").decode()
    with pytest.raises(DataError, match="no curve has a full-precision run"):
        loss_curves([alone], relative=True)


def test_relative_fit_is_above_the_law_s_own_full_precision() -> None:
    table = runs_of(runs.table(simulated_rows(sizes=(96_000,), ratios=(90.0,), bits=(4.0,), noise=0.0)))
    (plain,), (above,) = (loss_curves(table, Predictor(law=TRUTH), relative=r).curves for r in (False, True))
    base = TRUTH.predict(Inputs.of(n=plain.n, d_total=plain.d_total))[0]
    assert plain.fitted is not None
    assert above.fitted is not None
    assert above.fitted.loss.value == pytest.approx(plain.fitted.loss.value - base)
    assert above.fitted.optimum_loss == pytest.approx((plain.fitted.optimum_loss or 0.0) - base)


def test_beaten_settings_are_kept_as_such() -> None:
    (curve,) = measured_curves([*CURVE, a_run(0.1, 1.45, setting=("a",)), a_run(0.1, None, setting=("b",))])
    assert [(p.fraction, p.loss) for p in curve.beaten] == [(0.1, 1.45)]
