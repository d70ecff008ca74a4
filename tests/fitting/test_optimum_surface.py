"""The optimum surface: it finds a known one, takes ends as bounds, and its intervals hold on curves it did not see."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.optimize import approx_fprime, differential_evolution
from scipy.stats import norm
from support.curves import curve_table

from qatplan import runs
from qatplan.errors import DataError, UsageError
from qatplan.fitting import surface
from qatplan.fitting.api import fit
from qatplan.fitting.options import FitOptions
from qatplan.fitting.split.regret import measured_curves
from qatplan.laws import Inputs
from qatplan.laws.fit_parts import FractionDiagnostics, SplitEvidence
from qatplan.laws.fraction_surface import FractionSurface

TRUE = FractionSurface(c_0=-1.2, c_B=-1.5, c_D=0.5)
DATA = Path(__file__).parents[2] / "data"


def losses(x: Inputs) -> np.ndarray:
    """Parabolas in log-odds about the surface's optimum, which scatters by 0.2 from cell to cell."""
    q = x.quantized
    points = Inputs.of(n=x.n, d_total=x.d_total, bits=np.where(q, x.bits, 3), fraction=0.5)
    best = TRUE.predict(points)
    cell = np.sin(1e3 * np.log(x.n) + 7e2 * np.log(x.d_total) + 11 * points.bits)
    u = np.where(q, np.log(x.fraction / (1 - x.fraction)) if np.all(x.fraction > 0) else 0.0, 0.0)
    away = u - np.log(best / (1 - best)) - 0.28 * cell
    return np.where(q, np.exp(1.0 + 0.004 * away**2), 2.5)


def table(**changes: object) -> pa.Table:
    return curve_table(losses, sizes=(1e5, 3e5), ratios=(5, 20, 80, 320), bits=(2, 3, 4, 6), noise=2e-4, **changes)  # type: ignore[arg-type]


def evidence(diagnostics: object) -> SplitEvidence:
    assert isinstance(diagnostics, FractionDiagnostics)
    assert diagnostics.split is not None
    return diagnostics.split


def test_it_finds_the_surface_that_is_true() -> None:
    found = fit(table(), FitOptions(law="fraction-surface", bootstrap=200))
    for name, value in TRUE.params().items():
        low, high = found.intervals[name]
        assert low <= value <= high, name
        assert abs(found.params[name] - value) < 0.25, name
    assert evidence(found.diagnostics).scatter == pytest.approx(0.2, abs=0.1)
    assert found.status == "good"


def test_minima_at_an_end_are_bounds_not_values() -> None:
    """With fractions up to .3 alone, most minima of large budgets lie beyond: snapped to .3 the slope would vanish."""
    narrow = table(fractions=(0.01, 0.03, 0.07, 0.12, 0.2, 0.3))
    found = fit(narrow, FitOptions(law="fraction-surface"))
    assert isinstance(found.diagnostics, FractionDiagnostics)
    assert found.diagnostics.without_inner_minimum >= 8
    assert found.params["c_D"] == pytest.approx(TRUE.c_D, abs=0.25)
    at = np.array([(math.log(c.bits / 3), math.log(c.d_total / 2e6)) for c in found.diagnostics.curves])
    snapped = np.array([c.optimum if c.optimum is not None else 0.3 for c in found.diagnostics.curves])
    design = np.column_stack([np.ones(len(at)), at])
    slope = np.linalg.lstsq(design, np.log(snapped / (1 - snapped)), rcond=None)[0][2]
    assert slope < 0.6 * found.params["c_D"]


def test_the_gradient_is_that_of_the_likelihood() -> None:
    seen = surface.observed([m.curve for m in measured_curves(table())[1]], seed=0)
    rng = np.random.default_rng(2)
    for _ in range(5):
        vector = surface._PRIOR[:, 0] + rng.standard_normal(4) * surface._PRIOR[:, 1]
        value, gradient = surface._objective(vector, seen)
        numeric = approx_fprime(vector, lambda v: surface._objective(v, seen)[0], 1e-6)
        assert gradient == pytest.approx(numeric, rel=1e-3, abs=1e-2 * (1 + abs(value)) * 1e-3)


def test_an_independent_likelihood_and_optimiser_agree() -> None:
    """One artificial curve each, so that the likelihood is the plain one of a censored normal regression."""
    seen = surface.observed([m.curve for m in measured_curves(table(fractions=(0.01, 0.03, 0.07, 0.12, 0.2, 0.3)))[1]],
                            seed=0, draws=1)  # fmt: skip
    center, width = surface._PRIOR.T

    def minus_log(vector: np.ndarray) -> float:
        mean, sd = seen.columns @ vector[:3], math.exp(vector[3])
        total = float(np.sum(norm.logpdf(vector, center, width)))
        for m, at, side, low, high in zip(
            mean, seen.at[:, 0], seen.side[:, 0], seen.low[:, 0], seen.high[:, 0], strict=True
        ):
            if side == 0:
                total += norm.logpdf(at, m, sd)
            else:
                total += norm.logsf(high, m, sd) if side > 0 else norm.logcdf(low, m, sd)
        return -total

    found = surface.solve(seen)
    other = differential_evolution(minus_log, [(-4, 1), (-6, 2), (-1, 2), (-4, 1)], seed=3, tol=1e-10, maxiter=400)
    assert found.vector == pytest.approx(other.x, abs=2e-3)


def test_held_out_curves_of_the_shipped_sweep() -> None:
    """Regret at most 3 mnats on cells and larger runs that the fit did not see; intervals hold at least 88 %."""
    shipped = runs.read([DATA / "main/runs.parquet", DATA / "more-fractions/runs.parquet"])
    found = fit(shipped, FitOptions(law="fraction-surface"))
    scores = {s.way: s for s in evidence(found.diagnostics).scores}
    assert set(scores) == {"cell", "tokens", "size"}
    for score in scores.values():
        assert score.mean_regret <= 3.0e-3
        assert 0.88 <= score.coverage <= 1.0
    assert scores["cell"].curves == 55
    assert scores["cell"].median_width < 0.45


def test_a_fit_keeps_its_curves_and_comes_back_from_its_file(tmp_path: Path) -> None:
    from qatplan.laws import FittedLaw

    found = fit(table(), FitOptions(law="fraction-surface"))
    found.write(tmp_path / "surface.json")
    back = FittedLaw.read(tmp_path / "surface.json")
    assert back.diagnostics == found.diagnostics
    assert isinstance(back.diagnostics, FractionDiagnostics)
    assert all(len(c.fractions or ()) == len(c.losses or ()) == 8 for c in back.diagnostics.curves)


def test_what_the_curves_leave_open_is_said() -> None:
    one = fit(table(), FitOptions(law="fraction-surface", rows="bits == 4 and n_total == 100000 and d_total == 500000"))
    assert len(one.identifiability) == 2
    assert one.params["c_D"] == pytest.approx(0.4, abs=0.05)
    with pytest.raises(DataError, match="no curve has 5 fractions"):
        fit(table(fractions=(0.1, 0.3)), FitOptions(law="fraction-surface"))
    with pytest.raises(UsageError, match="fix has no meaning"):
        fit(table(), FitOptions(law="fraction-surface", fix={"c_D": 0.0}))
