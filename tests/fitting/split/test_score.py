"""The score: it ranks the law first that is true, counts right, and never shows a fit what it is asked about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from support.curves import FRACTIONS, curve_table
from support.simulated import TRUE_QAT

from qatplan.errors import DataError, UsageError
from qatplan.fitting import surface_law
from qatplan.fitting.options import FitOptions
from qatplan.fitting.split import predictors as interface
from qatplan.fitting.split import score
from qatplan.fitting.split.predictors import RULES, Fitted, Kind, Predictor, Published, Split, predictors
from qatplan.fitting.split.regret import measured_curves
from qatplan.fitting.split.score import SplitComparison, compare_splits
from qatplan.fitting.split.summary import Entry, Scheme, summarised
from qatplan.laws import Inputs, Law, QatFraction, QatLoss, registry

TRUE_A = 12.0


FALLING = TRUE_QAT.replace({"phi": 40.0, "chi": 1.2, "omega": 1.0, "lam": 5.0, "mu": 0.3, "xi": 0.3, "rho": 0.05})
"""A unified law whose optimal fraction falls with tokens, from .44 to .17, which no fraction law can follow."""


def from_optimum(x: Inputs) -> np.ndarray:
    """Distance in log-odds from the fraction law's optimum; 0 in full precision."""
    with np.errstate(invalid="ignore"):
        best = np.where(x.quantized, np.exp(-TRUE_A / np.log(x.s_total)), 0.5)
    share = np.where(x.quantized, x.fraction, 0.5)
    return np.asarray(np.log(share / (1 - share)) - np.log(best / (1 - best)))


def parabolas(x: Inputs) -> np.ndarray:
    """Losses whose logs are parabolas about the fraction law's optimum."""
    return np.exp(1 + 0.005 * from_optimum(x) ** 2)


def by_fraction_law(x: Inputs) -> np.ndarray:
    """Losses that are lowest exactly at the fraction law's optimum, steeper below it than above."""
    u = from_optimum(x)
    level = 1.5 + 30 / x.n**0.3 + 40 / x.d_total**0.3 + np.where(x.quantized, 2.0 ** -np.nan_to_num(x.bits), 0)
    return np.asarray(level + 0.02 * (np.cosh(0.7 * u) - 0.1 * np.sinh(0.7 * u) + 0.07 * u - 1))


def compared(table: Any) -> SplitComparison:
    """As they compare by themselves, but with few starts to a fit and without what the surface says of itself."""
    options_of = interface._options_of

    def quick(law: type[Law], options: FitOptions) -> FitOptions:
        return replace(options_of(law, options), starts=4 if law.quantity == "loss" else None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interface, "_options_of", quick)
        patch.setattr(surface_law, "held_out", lambda *curves, **options: None)
        return compare_splits(table, folds=2)


@pytest.fixture(scope="module")
def when_unified() -> SplitComparison:
    table = curve_table(FALLING.predict, sizes=(2e6, 2e7, 2e8), ratios=(20, 80, 320), noise=2e-4)
    return compared(table)


@pytest.fixture(scope="module")
def when_fraction() -> SplitComparison:
    table = curve_table(by_fraction_law, sizes=(2e6, 2e7, 2e8), ratios=(50, 400, 3200), bits=(2, 4), noise=1e-4)
    return compared(table)


def first(scheme: Scheme) -> Entry:
    return scheme.entries[0]


def test_where_the_unified_law_is_true_it_costs_least(when_unified: SplitComparison) -> None:
    assert [s.way for s in when_unified.schemes] == ["cell", "tokens", "size"]
    for scheme in when_unified.schemes:
        assert first(scheme).name == "qat-loss", scheme.way
        best = first(scheme).overall
        assert best is not None
        assert best.mean_regret < 1e-3
        for rival in scheme.entries[1:]:
            assert rival.behind > 2 * rival.behind_error
    cell = first(when_unified.schemes[0]).overall
    assert cell is not None
    assert cell.loss_error < 1e-3
    assert cell.fraction_error < 0.1


def test_where_the_fraction_law_is_true_it_costs_least(when_fraction: SplitComparison) -> None:
    for scheme in when_fraction.schemes:
        best = first(scheme)
        assert best.name == "qat-fraction", scheme.way
        assert best.overall is not None
        assert best.overall.mean_regret < 1e-3
        assert best.overall.fraction_error < 0.03
        assert math.isnan(best.overall.loss_error)  # it knows no loss


def test_schemes_count_what_they_scored(when_unified: SplitComparison) -> None:
    cell, tokens, size = when_unified.schemes
    assert (when_unified.curves, when_unified.cells, cell.scored, cell.folds) == (27, 27, 27, 2)
    assert when_unified.in_sample.scored == 27
    assert (size.folds, size.scored) == (1, 9)
    for scheme in (cell, tokens, size):
        rules = {r.name for r in RULES}
        assert {e.name for e in scheme.entries} == {
            "qat-loss",
            "effective-tokens",
            "qat-fraction",
            "fraction-surface",
            *rules,
        }
        for e in scheme.entries:
            assert e.overall is not None
            assert len(e.scores) == e.overall.curves == scheme.scored
            assert sum(t.curves for _, t in e.by_bits) == sum(t.curves for _, t in e.by_distance) == scheme.scored
            assert [b for b, _ in e.by_bits] == [2, 3, 4]
            regrets = [s.regret for s in e.scores]
            assert e.overall.mean_regret == pytest.approx(np.mean(regrets))
            assert e.overall.worst_regret == max(regrets)
        means = [e.overall.mean_regret for e in scheme.entries if e.overall]
        assert means == sorted(means)
    assert [d for d, _ in first(size).by_distance] == [16]  # ten times the size
    assert {d for d, _ in first(tokens).by_distance} >= {16, 128}
    assert all(s.distance == 1 for s in first(cell).scores)


def test_a_is_what_a_one_parameter_optimiser_finds() -> None:
    table = curve_table(parabolas, sizes=(2e7,), ratios=(50, 400, 3200))
    curves = [m for m in measured_curves(table)[1] if m.none is None]
    s, f = np.array([m.curve.s_total for m in curves]), np.array([m.fraction for m in curves])
    # Without noise all minima weigh the same, so the fit is plain least squares.
    oracle = minimize_scalar(lambda a: np.sum((np.exp(-a / np.log(s)) - f) ** 2), bounds=(1, 100), method="bounded")
    at = Inputs.of(n=2e7, d_total=2e9, bits=[2, 4], fraction=0.5)
    split = Fitted(name="a", options=FitOptions(law="qat-fraction")).fit(table, at)
    assert split.law is not None
    assert split.law.params()["a"] == pytest.approx(oracle.x, rel=1e-4)
    assert split.fraction == pytest.approx(np.exp(-oracle.x / np.log([400, 200])), rel=1e-4)
    assert split.parameters == 1
    assert np.isnan(split.low).all()


@dataclass(kw_only=True)
class Watching(Predictor):
    """Names one fraction and an interval, and notes every table that it is fitted to."""

    name: str = "watching"
    kind: Kind = "rule"
    share: float = 0.15
    interval: tuple[float, float] = (0.0, 1.0)
    missing: tuple[float, ...] = ()
    """Bit widths without an answer."""
    seen: list[Any] = field(default_factory=list)
    asked: list[Inputs] = field(default_factory=list)

    def fit(self, table: Any, points: Inputs) -> Split:
        self.seen.append(table)
        self.asked.append(points)
        fraction = np.where(np.isin(points.bits, self.missing), np.nan, self.share)
        low, high = (np.full(len(points), v) for v in self.interval)
        return Split(fraction=fraction, low=low, high=high, law=None, parameters=0, certified=True)


@dataclass(kw_only=True)
class Failing(Watching):
    name: str = "failing"

    def fit(self, table: Any, points: Inputs) -> Split:
        raise DataError("there is not enough of anything")


def watched(monkeypatch: pytest.MonkeyPatch, table: Any, *judged: Predictor) -> SplitComparison:
    monkeypatch.setattr(score, "predictors", lambda laws, options: judged)
    return compare_splits(table)


def test_each_fold_is_fitted_once_and_sees_nothing_of_what_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    table = curve_table(by_fraction_law, seeds=(0, 1), noise=1e-3)
    spy = Watching()
    made = watched(monkeypatch, table, spy)
    assert len(spy.seen) == sum(s.folds for s in made.schemes) + 1
    for seen, points in list(zip(spy.seen, spy.asked, strict=True))[:-1]:
        known = {(r["n_total"], r["bits"], r["d_total"]) for r in seen.to_pylist()}
        assert not known & set(zip(points.n, points.bits, points.d_total.round(), strict=True))
    assert spy.seen[-1].num_rows == table.num_rows


@pytest.mark.parametrize(("interval", "share"), [((0.0, 1.0), 1.0), ((0.999, 1.0), 0.0)])
def test_coverage_counts_interior_minima_only(
    monkeypatch: pytest.MonkeyPatch, interval: tuple[float, float], share: float
) -> None:
    # At 4 bits the loss falls all the way, so those curves have no minimum to be held.
    def losses(x: Inputs) -> np.ndarray:
        share = np.where(x.quantized, x.fraction, 0.15)
        return np.where(x.bits == 4, 3 - share, 2 + 0.1 * np.log(share / 0.15) ** 2)

    made = watched(monkeypatch, curve_table(losses), Watching(interval=interval))
    cell = first(made.schemes[0]).overall
    assert cell is not None
    assert (made.curves, made.interior, cell.interior, cell.intervals, cell.coverage) == (27, 18, 18, 18, share)
    assert cell.fraction_error < 0.01
    by_bits = {b: t.mean_regret for b, t in first(made.schemes[0]).by_bits}
    assert by_bits[4] == pytest.approx(0.9 - 0.15, abs=1e-9)
    assert by_bits[2] == pytest.approx(0, abs=1e-9)


def test_all_are_compared_on_the_curves_that_each_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    table = curve_table(by_fraction_law)
    partial, mute = Watching(name="partial", missing=(4,)), Watching(name="mute", missing=(3, 4))
    cell = watched(monkeypatch, table, Watching(), partial, mute, Failing()).schemes[0]
    assert (cell.scored, cell.unanswered) == (18, 9)
    shown = {e.name: e for e in cell.entries}
    assert shown["watching"].overall == shown["partial"].overall
    assert shown["mute"].error == "names a fraction for 9 of 27 curves only"
    assert str(shown["failing"].error).endswith("of the runs: there is not enough of anything")
    with pytest.raises(DataError, match="no curve has an answer from every law and rule"):
        watched(monkeypatch, table, Failing())


def test_standard_errors_count_a_cell_once(monkeypatch: pytest.MonkeyPatch) -> None:
    table = curve_table(by_fraction_law, seeds=(0, 1, 2), noise=1e-3)
    made = watched(monkeypatch, table, Watching(name="a", share=0.1), Watching(name="b", share=0.4))
    best, second = made.schemes[0].entries[:2]
    by_cell: dict[int, list[float]] = {}
    for s, b in zip(second.scores, best.scores, strict=True):
        by_cell.setdefault(s.cell, []).append(s.regret - b.regret)
    means = np.array([np.mean(d) for d in by_cell.values()])
    # Cells of three curves each: the usual error of a mean of cells.
    assert len(means) == 27
    assert second.behind == pytest.approx(means.mean())
    assert second.behind_error == pytest.approx(means.std(ddof=1) / math.sqrt(27))
    assert summarised(best, best).behind == 0


def test_laws_are_chosen_by_what_they_say_they_know(monkeypatch: pytest.MonkeyPatch) -> None:
    class Newcomer(QatLoss):
        name: ClassVar[str] = "newcomer"

    monkeypatch.setitem(registry._BY_NAME, "newcomer", Newcomer)
    monkeypatch.setattr(interface, "NAMES", (*registry.NAMES, "newcomer"))
    names = [p.name for p in predictors(None, FitOptions())]
    laws = ["qat-loss", "effective-tokens", "qat-fraction", "fraction-surface", "newcomer"]
    assert names == [*laws, "always 10 %", "published a = 6.7297"]
    assert [p.kind for p in predictors(["newcomer"], FitOptions())] == ["law", "rule", "rule"]


@pytest.mark.parametrize(
    ("laws", "sentence"),
    [
        (["effective"], "law effective does not depend on the QAT fraction; those that do are qat-loss, "),
        (["qat-loss", "qat-loss"], "named twice"),
        (["qat-los"], "no law is called 'qat-los'"),
    ],
)
def test_laws_without_an_opinion_are_refused(laws: Sequence[str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        compare_splits(curve_table(by_fraction_law), laws=laws)


def test_a_law_names_nothing_outside_its_domain_or_without_its_terms() -> None:
    points = Inputs.of(n=1e6, d_total=[1e5, 1e9], bits=4, fraction=0.5)
    answered = Published(name="p", law=QatFraction()).fit(None, points).fraction
    assert np.isnan(answered[0])
    assert answered[1] == pytest.approx(math.exp(-6.7297 / math.log(2000)))
    blind = Published(name="b", law=TRUE_QAT.replace({"phi": 0.0, "lam": 0.0})).fit(None, points)
    assert np.isnan(blind.fraction).all()
    inside = Inputs.of(n=1e6, d_total=1e9, bits=4, fraction=list(FRACTIONS))
    assert blind.loss(inside) == pytest.approx(blind.law.predict(inside))  # type: ignore[union-attr, arg-type]


def test_intervals_are_those_of_the_draws() -> None:
    table = curve_table(by_fraction_law, noise=1e-3)
    options = FitOptions(law="qat-fraction", bootstrap=60)
    split = Fitted(name="a", options=options).fit(table, Inputs.of(n=1e6, d_total=[1e8, 1e10], bits=4, fraction=0.5))
    assert np.all((split.low < split.fraction) & (split.fraction < split.high))


def test_folds_and_tables_that_cannot_be_used() -> None:
    table = curve_table(by_fraction_law, sizes=(1e5,), ratios=(80,), bits=(4,))
    with pytest.raises(UsageError, match="folds is 1; allowed is 2 or more"):
        compare_splits(table, folds=1)
    with pytest.raises(DataError, match=r"two such cells; the 1 curves? .*of 1 budget; .*of 1 size;"):
        compare_splits(table)
