"""Measured optima on their way from a table, or from a fit, into the figure."""

from __future__ import annotations

import pytest
from support.figure_sweeps import TRUTH, simulated_rows

from qatplan import runs
from qatplan.fitting.curves import measured_optima as measured
from qatplan.fitting.curves import recorded_optima as recorded
from qatplan.fitting.fraction_law import fit_fraction
from qatplan.fitting.options import FitOptions
from qatplan.laws.optimum import optimal_fraction

ROWS = simulated_rows(sizes=(96_000,), bits=(2.0, 4.0), noise=2e-4)


def test_inner_optima_lie_near_the_true_ones_within_their_intervals() -> None:
    found = measured(runs.table(ROWS))
    assert len(found) == 6
    for o in found:
        true = optimal_fraction(TRUTH, n=o.n, d_total=o.d_total, bits=o.bits).fraction[0]
        assert o.end == 0
        assert o.low < o.fraction < o.high
        assert o.fraction == pytest.approx(true, abs=0.06)


def test_a_curve_cut_before_its_minimum_is_returned_at_its_end() -> None:
    short = [r for r in ROWS if r["d_qat"] <= 0.16 * r["d_total"]]
    found = measured(runs.table(short))
    assert {o.end for o in found} == {1}
    assert [o.fraction for o in found] == pytest.approx([0.15] * 6, abs=1e-4)
    late = [r for r in ROWS if r["d_qat"] >= 0.6 * r["d_total"]]
    more = [{**r, "run_id": f"{r['run_id']}-{q}", "d_qat": q, "d_fp": r["d_total"] - q, "loss": r["loss"] + extra}
            for r in late if r["d_qat"] < r["d_total"]
            for extra, q in ((0.01, int(0.8 * r["d_total"])), (0.03, int(0.9 * r["d_total"])))]  # fmt: skip
    assert {o.end for o in measured(runs.table(late + more))} == {-1}


def test_a_lower_loss_without_any_qat_is_an_end() -> None:
    free = [{**r, "loss": 1.0} if r["schedule"] == "post-training" else r for r in ROWS]
    wide = [r for r in free if r["schedule"] != "post-training"]
    classic = [
        {**r, "schedule": "classic", "quantizer": "paretoq"} if r["schedule"] == "post-training" else r for r in free
    ]
    assert {o.end for o in measured(runs.table(wide))} == {0}
    assert {o.end for o in measured(runs.table(classic))} == {-1}


def test_curves_of_two_fractions_and_tables_without_bits_give_none() -> None:
    two = [r for r in ROWS if 0.25 * r["d_total"] < r["d_qat"] < 0.6 * r["d_total"]]
    assert measured(runs.table(two)) == []
    assert measured(runs.table([r for r in ROWS if r["schedule"] == "full-precision"])) == []


def test_a_fit_of_the_fraction_law_records_the_same_optima() -> None:
    table = runs.table(ROWS)
    fit = fit_fraction(table, FitOptions(), loss_law=False)
    assert [(o.bits, o.d_total, o.fraction) for o in recorded(fit)] == [
        (o.bits, o.d_total, o.fraction) for o in measured(table)
    ]
