"""Contours, frontier, residuals, parameters and training curves: numbers in the series, words in the drawing."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from support.figure_sweeps import TRUTH, simulated_rows

from qatplan import runs
from qatplan.errors import DataError, UsageError
from qatplan.figures import contours, frontier, make, parameters, residuals, training_curves
from qatplan.figures.measured import Run, runs_of
from qatplan.figures.style import render
from qatplan.laws.chinchilla import Chinchilla
from qatplan.laws.fitted import FittedLaw
from qatplan.laws.inputs import Inputs
from qatplan.laws.optimum import optimal_fraction
from qatplan.laws.predictor import Predictor

LAW = Predictor(law=TRUTH)
DRAWN = Predictor(law=TRUTH, draws=TRUTH.coordinates() + 0.01 * np.random.default_rng(3).standard_normal((40, 16)))
FLAT = Predictor(law=Chinchilla(E=1.8, A=482.0, alpha=0.35, C=2085.0, beta=0.37))


def measured_runs(noise: float = 0.0) -> tuple[Run, ...]:
    return runs_of(runs.table(simulated_rows(sizes=(96_000,), ratios=(90.0, 300.0), bits=(2.0, 4.0), noise=noise)))


def test_contours_are_the_law_on_its_grid() -> None:
    series = contours.contours(LAW, n=96e3, bits=4.0, tokens=(1e6, 3e7))
    i, j = 70, 40
    expected = TRUTH.predict(Inputs.of(n=96e3, d_fp=series.d_fp[j], d_qat=series.d_qat[i], bits=4.0))[0]
    assert series.loss[i, j] == pytest.approx(expected, rel=1e-12)
    assert series.loss.shape == (len(series.d_qat), len(series.d_fp))


def test_path_of_contours_is_the_optimum_and_crosses_every_budget_at_its_lowest_loss() -> None:
    series = contours.contours(DRAWN, n=96e3, bits=4.0, tokens=(1e6, 3e7))
    fractions = np.linspace(0.01, 0.99, 981)
    losses = TRUTH.predict(Inputs.of(n=96e3, d_total=float(series.budgets[40]), fraction=fractions, bits=4.0))
    assert series.optimum.value[40] == pytest.approx(fractions[np.argmin(losses)], abs=1e-3)
    assert series.optimum.low is not None
    assert series.optimum.high is not None
    assert np.all(series.optimum.low <= series.optimum.high)


def test_contour_levels_are_round_and_within_the_losses() -> None:
    series = contours.contours(LAW, n=96e3, bits=4.0, tokens=(1e6, 3e7))
    steps = np.diff(series.levels)
    assert 4 <= len(series.levels) <= 12
    assert steps == pytest.approx(np.full(len(steps), steps[0]))
    assert np.nanmin(series.loss) < series.levels[0]


def test_contours_of_one_budget_and_of_a_huge_range_are_drawn() -> None:
    for tokens in ((1e7, 1e7), (1e9, 3e13)):
        assert render(contours.draw(contours.contours(LAW, n=1e6, bits=2.0, tokens=tokens)), "png")


def test_contours_name_what_they_show() -> None:
    series = contours.contours(LAW, n=96e3, bits=4.0, tokens=(1e6, 3e7), measured=[(1e6, 1e6), (1e6, 0.0)])
    assert series.measured == ((1e6, 1e6),)
    svg = render(contours.draw(series), "svg").decode()
    for words in ("Full-precision tokens D_fp", "QAT tokens D_qat", "best split", "measured runs", "4-bit, N = 96K"):
        assert words in svg, words


@pytest.mark.parametrize("build", [
    lambda: contours.contours(FLAT, n=1e6, bits=4.0, tokens=(1e6, 1e8)),
    lambda: frontier.frontier(FLAT, bits=[4.0], d_total=1e8, sizes=(1e5, 1e6)),
])  # fmt: skip
def test_a_law_without_the_fraction_is_refused(build: object) -> None:
    with pytest.raises(UsageError, match="chinchilla gives no loss that depends on the split"):
        build()  # type: ignore[operator]


def test_frontier_is_the_lowest_loss_over_bit_widths_by_brute_force() -> None:
    series = frontier.frontier(LAW, bits=[4.0, 2.0], d_total=2e7, sizes=(32e3, 1e6))
    assert [c.bits for c in series.choices] == [2.0, 4.0]
    k = 60
    fractions = np.linspace(0.005, 0.995, 4001)
    lowest = {
        b: TRUTH.predict(Inputs.of(n=series.memory[k] * 8 / b, d_total=2e7, fraction=fractions, bits=b)).min()
        for b in (2.0, 4.0)
    }
    assert [c.loss[k] for c in series.choices] == pytest.approx([lowest[2.0], lowest[4.0]], abs=1e-6)
    assert series.lowest.value[k] == pytest.approx(min(lowest.values()), abs=1e-6)


def test_frontier_regions_tile_the_memory_and_name_the_winner() -> None:
    series = frontier.frontier(DRAWN, bits=[1.0, 2.0, 3.0, 4.0, 6.0], d_total=2e7, sizes=(32e3, 1e6))
    assert series.regions[0].low == series.memory[0]
    assert series.regions[-1].high == series.memory[-1]
    assert all(a.high == b.low and a.bits != b.bits for a, b in zip(series.regions, series.regions[1:], strict=False))
    for region in series.regions:
        middle = math.sqrt(region.low * region.high)
        losses = {
            c.bits: optimal_fraction(TRUTH, n=middle * 8 / c.bits, d_total=2e7, bits=c.bits).loss[0]
            for c in series.choices
        }
        assert min(losses, key=lambda b: losses[b]) == region.bits
    shares = np.sum([c.best for c in series.choices if c.best is not None], axis=0)
    assert shares == pytest.approx(np.ones(len(series.memory)))


def test_frontier_marks_what_is_extrapolated() -> None:
    series = frontier.frontier(LAW, bits=[2.0, 4.0], d_total=2e7, sizes=(32e3, 1e6))
    two, four = series.choices
    assert two.inside[0]
    assert not two.inside[-1]
    assert four.inside[-1]
    assert not four.inside[0]


def test_frontier_names_what_it_shows() -> None:
    for law in (LAW, DRAWN):
        series = frontier.frontier(law, bits=[2.0, 4.0], d_total=2e7, sizes=(32e3, 1e6))
        svg = render(frontier.draw(series), "svg").decode()
        for words in (
            "Memory of the weights",
            "Predicted loss (nats/token)",
            "2-bit",
            "4-bit",
            "full precision",
            "KiB",
        ):
            assert words in svg, words
        assert ("Share of draws" in svg) == (law is DRAWN)


def test_residuals_are_logarithms_in_percent() -> None:
    run = measured_runs()[3]
    assert run.bits is not None
    predicted = TRUTH.predict(Inputs.of(n=run.n, d_total=run.d_total, fraction=run.fraction, bits=run.bits))[0]
    series = residuals.residuals([run], LAW)
    assert series.points[0].percent == pytest.approx(100 * math.log((run.loss or 0) / predicted))


def test_residuals_count_what_they_leave_out() -> None:
    table = measured_runs()
    series = residuals.residuals(table, LAW, noise=0.0015)
    singular = sum(r.bits is not None and r.fraction in (0.0, 1.0) for r in table)
    assert len(series.points) == len(table) - singular
    assert any(note.startswith(f"{singular} of {len(table)} runs are not shown") for note in series.notes)
    assert series.noise == pytest.approx(0.15)


def test_residuals_without_a_usable_run_are_refused() -> None:
    rounded = [r for r in measured_runs() if r.bits is not None and r.fraction == 0.0]
    with pytest.raises(DataError, match="outside the law's domain"):
        residuals.residuals(rounded, LAW)


def test_residuals_name_what_they_show() -> None:
    svg = render(residuals.draw(residuals.residuals(measured_runs(0.002), LAW, 0.001)), "svg").decode()
    for words in ("Residual (%)", "Parameters N", "Total tokens D_total", "QAT fraction f", "Bits per weight", "2-bit"):
        assert words in svg, words


def fit(**more: object) -> FittedLaw:
    return FittedLaw(law=TRUTH, **more)  # type: ignore[arg-type]


def test_parameters_keep_the_law_s_order_values_and_intervals() -> None:
    series = parameters.parameters(fit(intervals={"E": (0.72, 0.96), "rho": (-0.1, 0.9)}, interval_kind="bootstrap"))
    assert [e.name for e in series.estimates] == list(TRUTH.params())
    first, last = series.estimates[0], series.estimates[-1]
    assert first.relative == pytest.approx((0.9, 1.2))
    assert last.relative == pytest.approx((-2.0, 18.0))
    assert series.estimates[1].relative is None
    assert series.title == "Law qat-loss: 1 of 2 parameters are known within a factor of two"


def test_parameters_at_a_bound_are_marked() -> None:
    law = TRUTH.replace({"xi": 0.0})
    series = parameters.parameters(FittedLaw(law=law))
    assert [e.name for e in series.estimates if e.at_bound] == ["xi"]
    assert any("bound" in note for note in series.notes)


def test_parameters_name_what_they_show() -> None:
    iv = {name: (0.8 * v, 1.3 * v) for name, v in TRUTH.params().items()} | {"phi": (1e-3, 80.0)}
    svg = render(parameters.draw(parameters.parameters(fit(intervals=iv, interval_kind="profile"))), "svg").decode()
    for words in (
        "0.8  [0.64, 1.04] nats/token",
        "exponent of tokens",
        "95% profile-likelihood intervals",
        "κ",
        "An arrow marks",
    ):
        assert words in svg, words
    assert "this fit records no intervals" in " ".join(parameters.parameters(fit()).notes).lower()
    assert render(parameters.draw(parameters.parameters(fit())), "png")


def test_training_curves_choose_the_size_and_budget_with_most_curves() -> None:
    table = measured_runs()
    fewer = [r for r in table if r.d_total == max(t.d_total for t in table) or r.bits == 2.0]
    series = training_curves.training_curves(fewer)
    assert series.d_total == max(t.d_total for t in table)
    trace = next(t for t in series.traces if t.bits == 4.0 and abs(t.fraction - 0.3) < 1e-6)
    assert trace.switch == pytest.approx(0.7 * series.d_total)
    assert len(trace.tokens) == 6


def test_training_curves_without_any_are_refused() -> None:
    with pytest.raises(DataError, match="records its loss along training"):
        training_curves.training_curves(measured_runs(), n=5.0)


def test_training_curves_name_what_they_show() -> None:
    svg = render(training_curves.draw(training_curves.training_curves(measured_runs())), "svg").decode()
    for words in ("2-bit", "4-bit", "f = 0.3", "full precision", "Loss (nats/token)", "Tokens"):
        assert words in svg, words


def test_a_width_that_was_not_fitted_is_drawn_only_when_asked() -> None:
    """The shipped loss law leaves 1 bit out, and its runs have it."""
    root = Path(__file__).parents[2]
    fitted, table = FittedLaw.read(root / "fits/qat-loss.json"), runs.read([root / "data/main/runs.parquet"])
    drawn = make.draw("frontier", fitted=fitted, table=table)
    assert "1-bit" not in drawn.title
    assert 1.0 not in [path.bits for path in make.draw("fraction", fitted=fitted, table=table).series.paths]
    asked = make.draw("fraction", fitted=fitted, table=table, request=make.Request(bits=(1.0, 2.0)))
    assert [path.bits for path in asked.series.paths] == [1.0, 2.0]


def test_a_fraction_figure_draws_the_surface_and_says_how_many_optima_a_law_misses() -> None:
    root = Path(__file__).parents[2]
    table = runs.read([root / "data/main/runs.parquet", root / "data/more-fractions/runs.parquet"])
    surface = make.draw("fraction", fitted=FittedLaw.read(root / "fits/fraction-surface.json"), table=table)
    band = surface.series.paths[0].fraction
    assert np.all(band.low < band.value)
    assert np.all(band.value < band.high)
    inner = sum(o.end == 0 for o in surface.series.optima)
    assert (
        f"At their own sizes, the law's intervals hold all {inner} measured optima between the ends." in surface.notes
    )
    law = FittedLaw.read(root / "fits/qat-loss.json")
    drawn = make.draw("fraction", fitted=law, table=table)
    optima = [o for o in drawn.series.optima if o.end == 0]
    missed = 0
    for o in optima:
        _, own = law.predictor().optimum(n=o.n, d_total=o.d_total, bits=o.bits)
        missed += not own.low[0] <= o.fraction <= own.high[0]
    assert missed > len(optima) / 2
    assert (
        f"At their own sizes, the law's intervals miss {missed} of the {len(optima)} measured optima between the ends."
        in drawn.notes
    )
