"""Held-out scores, leave-one-size-out, residual tables, information criteria, and the ranking of laws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad
from support.simulated import TRUE_CHINCHILLA, TRUE_QAT, chinchilla_points, observed, qat_points, rows, table

from qatplan.errors import DataError, UsageError
from qatplan.fitting.api import fit
from qatplan.fitting.compare import _verdict, compare
from qatplan.fitting.diagnostics import held_out, information_criteria, residual_tables, score
from qatplan.fitting.options import FitOptions
from qatplan.laws import ChinchillaPerBits, Inputs
from qatplan.laws.fit_parts import LossDiagnostics

X = qat_points(400)
Y = observed(TRUE_QAT, X)
COLUMNS = table(X, Y)


def test_held_out_rows_are_what_they_say() -> None:
    data = rows(TRUE_QAT, X, Y)
    assert set(data.x.n[held_out(data, "largest-n")]) == {2.2e9}
    mask = held_out(data, "top-compute:0.25")
    compute = data.x.n * data.x.d_total
    assert mask.mean() == pytest.approx(0.25, abs=0.03)
    assert compute[mask].min() >= compute[~mask].max()
    spread = rows(TRUE_CHINCHILLA, chinchilla_points(100), observed(TRUE_CHINCHILLA, chinchilla_points(100)))
    assert held_out(spread, "largest-d").sum() == 10


@pytest.mark.parametrize("spec", ["biggest", "largest-n:3", "top-compute:2", "top-compute:x"])
def test_other_specifications_are_refused(spec: str) -> None:
    with pytest.raises(UsageError, match=r"holdout|share"):
        held_out(rows(TRUE_QAT, X, Y), spec)


def test_nothing_to_fit_is_refused() -> None:
    x = Inputs.of(n=1e8, d_total=np.geomspace(1e9, 1e11, 30))
    with pytest.raises(DataError, match="would leave no row"):
        held_out(rows(TRUE_CHINCHILLA, x, observed(TRUE_CHINCHILLA, x)), "largest-n")


def test_holdout_score_is_a_fit_without_those_rows() -> None:
    fitted = fit(COLUMNS, FitOptions(law="qat-loss", holdout="largest-n", starts=4))
    assert fitted.holdout is not None
    without = X.n < 2.2e9
    alone = fit(table(X.take(without), Y[without]), FitOptions(law="qat-loss", starts=4))
    error = np.abs(alone.predict(X.take(~without)) / Y[~without] - 1)
    assert fitted.holdout.mape == pytest.approx(error.mean(), rel=1e-4)
    assert fitted.holdout.max_ape == pytest.approx(error.max(), rel=1e-3)
    assert fitted.holdout.rows == int((~without).sum())


def test_leave_one_size_out_and_residual_tables() -> None:
    fitted = fit(COLUMNS, FitOptions(law="qat-loss", leave_one_size_out=True, starts=4))
    found = fitted.diagnostics
    assert isinstance(found, LossDiagnostics)
    assert [s.n for s in found.leave_one_size_out or ()] == sorted(set(X.n.tolist()))
    tables = found.residuals
    assert sum(r.rows for r in tables.bits) == 400
    assert sum(r.rows for r in tables.n) == 400
    assert sum(r.rows for r in tables.fraction or ()) == int(X.quantized.sum())
    error = np.log(fitted.predict(X) / Y)
    assert tables.bits[0].mean == pytest.approx(error[X.bits == 1].mean(), abs=1e-9)


def test_information_criteria_are_those_of_the_huber_density() -> None:
    rng = np.random.default_rng(0)
    r, delta = 0.004 * rng.standard_normal(300), 1e-3
    size = np.abs(r)
    terms = np.where(size <= delta, size**2 / 2, delta * (size - delta / 2))

    def deviance(s: float) -> float:
        inner, _ = quad(lambda v: np.exp(-(v**2) / 2 / s), -delta, delta)
        outer, _ = quad(lambda v: np.exp(-delta * (v - delta / 2) / s), delta, delta + 60 * s / delta)
        return float(2 * terms.sum() / s + 2 * 300 * np.log(inner + 2 * outer))

    best = min(deviance(s) for s in np.exp(np.linspace(-16, -9, 300)))
    aic, bic = information_criteria(float(terms.sum()), 300, 4, delta)
    assert aic == pytest.approx(best + 10, abs=0.2)
    assert bic - aic == pytest.approx(5 * (np.log(300) - 2), rel=1e-12)


def test_the_true_law_wins_and_blunter_ones_follow() -> None:
    result = compare(COLUMNS, holdout="largest-n")
    assert result.entries[0].law == "qat-loss"
    assert result.entries[-1].law == "chinchilla"
    assert [e.mape for e in result.entries] == sorted(e.mape for e in result.entries if e.mape is not None)
    assert min(result.entries, key=lambda e: e.bic or 0).law == "qat-loss"
    assert {e.rows for e in result.entries} == {400}


def test_a_simple_world_does_not_need_sixteen_parameters() -> None:
    """Losses that do not depend on bits or split: the plain law must win by BIC, and the words say so."""
    y = observed(TRUE_CHINCHILLA, X, 0.003)
    result = compare(table(X, y), laws=("effective", "chinchilla", "chinchilla-per-bits"))
    by_bic = min(result.entries, key=lambda e: e.bic if e.bic is not None else np.inf)
    assert by_bic.law == "chinchilla"


def test_laws_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(UsageError, match="at least two"):
        compare(COLUMNS, laws=("qat-loss",))
    with pytest.raises(UsageError, match="predicts a fraction"):
        compare(COLUMNS, laws=("qat-loss", "qat-fraction"))
    with pytest.raises(UsageError, match="named twice"):
        compare(COLUMNS, laws=("qat-loss", "qat-loss"))


def scratch() -> Inputs:
    """36 rows of three sizes and four budgets, in full precision and quantized from the start at 4 and 2 bits."""
    n, d = np.tile([1e7, 3e7, 9e7], 12), np.repeat([2e8, 4e8, 8e8, 1.6e9], 9)
    bits = np.tile(np.repeat([np.nan, 4.0, 2.0], 3), 4)
    d_qat = np.where(np.isnan(bits), 0.0, d)
    return Inputs.of(n=n, d_fp=d - d_qat, d_qat=d_qat, bits=bits)


def test_default_laws_are_those_of_the_rows() -> None:
    x = scratch()
    result = compare(table(x, observed(TRUE_CHINCHILLA, x, 0.003) + np.nan_to_num(0.5 / x.bits)))
    assert result.rows == 36
    left = result.entries[-1]
    assert left.law == "qat-loss"
    assert str(left.error).startswith("it describes 12 of the 36 rows: ")
    assert result.verdict is not None
    assert result.verdict.best.law != "qat-loss"


def test_laws_that_would_leave_full_precision_alone_are_not_ranked() -> None:
    x = scratch()
    y = observed(TRUE_CHINCHILLA, x, 0.003)
    with pytest.raises(DataError, match=r"none of the 12 rows .* 24 quantized rows are left out: .*law qat-loss"):
        compare(table(x, y), laws=("qat-loss", "effective"))
    full = ~x.quantized
    with pytest.raises(DataError, match=r"none of the 12 rows .* the laws are one; fit chinchilla to them"):
        compare(table(x.take(full), y[full]))


def test_laws_that_are_equal_on_the_rows_have_no_winner() -> None:
    x = scratch()
    made = compare(table(x, observed(TRUE_CHINCHILLA, x, 0.003)), laws=("effective", "chinchilla"))
    assert made.verdict is not None
    twin = replace(made.entries[0], law="twin")
    assert _verdict([made.entries[0], twin, made.entries[1]]) is None


def test_a_law_that_cannot_be_fitted_is_ranked_last_with_the_reason() -> None:
    few = table(X.take(slice(0, 14)), Y[:14])
    result = compare(few, laws=("chinchilla-per-bits", "chinchilla"))
    last = result.entries[-1]
    assert last.law == "chinchilla-per-bits"
    assert last.status == "not fitted"
    assert "14 rows support no term of chinchilla-per-bits: only" in str(last.error)
    assert result.verdict is None


def test_rows_outside_one_law_are_left_out_for_all() -> None:
    scratch = Inputs.of(n=X.n, d_total=X.d_total, fraction=np.where(X.quantized, X.fraction, 0.0), bits=X.bits)
    one = np.flatnonzero(X.quantized)[0]
    d_fp = scratch.d_fp.copy()
    d_fp[one] = 0.0
    moved = Inputs.of(n=scratch.n, d_fp=d_fp, d_qat=scratch.d_qat, bits=scratch.bits)
    result = compare(table(moved, Y), laws=("qat-loss", "chinchilla"))
    assert result.rows == 399
    assert [e.rows for e in result.left_out] == [1]
    assert result.left_out[0].reason.endswith("(law qat-loss)")
    only = table(moved.take(X.quantized), Y[X.quantized])
    with pytest.raises(DataError, match="no row lies inside the domain of all"):
        compare(only, laws=("ouyang", "chinchilla"))


def test_leaving_one_size_out_needs_sizes_that_repeat() -> None:
    two = chinchilla_points(60)
    x = Inputs.of(n=np.where(two.n > np.median(two.n), 1e9, 1e8), d_total=two.d_total)
    with pytest.raises(DataError, match="at least 3 model sizes"):
        fit(table(x, observed(TRUE_CHINCHILLA, x)), FitOptions(law="chinchilla", leave_one_size_out=True))
    many = Inputs.of(n=np.geomspace(1e8, 1e10, 60), d_total=two.d_total)
    with pytest.raises(DataError, match="sizes that repeat"):
        fit(table(many, observed(TRUE_CHINCHILLA, many)), FitOptions(law="chinchilla", leave_one_size_out=True))


def test_held_out_bits_that_no_row_was_fitted_on_are_counted() -> None:
    x = Inputs.of(n=np.repeat([1e8, 3e8, 1e9], 20), d_total=np.tile(np.geomspace(1e9, 1e11, 20), 3))
    eight = Inputs.of(n=np.full(5, 1e9), d_total=np.geomspace(1e11, 2e11, 5), bits=8, fraction=1.0)
    both = Inputs.of(
        n=np.r_[x.n, eight.n], d_fp=np.r_[x.d_fp, eight.d_fp], d_qat=np.r_[x.d_qat, eight.d_qat],
        bits=np.r_[x.bits, eight.bits],
    )  # fmt: skip
    shape = ChinchillaPerBits.for_inputs(both)
    data = rows(shape, both, observed(TRUE_CHINCHILLA, both))
    made = score(data, both.bits == 8, lambda part: ChinchillaPerBits.published(), "largest-d")
    assert (made.rows, made.not_predictable, made.mape) == (0, 5, None)


def test_fractions_that_are_all_the_same_are_one_group() -> None:
    x = Inputs.of(n=np.geomspace(1e8, 1e10, 60), d_total=2e10, bits=4, fraction=0.5)
    tables = residual_tables(rows(TRUE_QAT, x, TRUE_QAT.predict(x)), np.linspace(-0.01, 0.01, 60))
    assert tables.fraction is not None
    assert [g.value for g in tables.fraction] == [0.5]
    assert len(tables.n) == 6
    assert all(isinstance(g.value, tuple) for g in tables.n)
