"""Who answers for the split, what is flat, and what contradicts it, on curves whose shape is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from support.problems import details, problem

from qatplan.errors import UsageError
from qatplan.laws import FittedLaw, Inputs, QatLoss, optimal_fraction
from qatplan.laws.fit_parts import CurveRecord, FractionDiagnostics, SplitEvidence, SplitScore
from qatplan.laws.fraction_surface import FractionSurface
from qatplan.planning.caveats import Concern
from qatplan.planning.evidence.split import advise, costs, evidence_of
from qatplan.planning.recommend import Recommendation, recommend
from qatplan.planning.trust import PlanStatus
from qatplan.wording.plan import LINES, plan_sections
from qatplan.wording.text import to_text

CURVATURE = 0.01
AT = np.array([0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9])
LAW = FractionSurface(c_0=-1.0, c_B=0.0, c_D=0.0)
"""The same fraction everywhere: 1 / (1 + e) = 0.269."""


def odds(f: np.ndarray | float) -> np.ndarray:
    return np.log(f) - np.log1p(-np.asarray(f))


def curve(best: float, *, n: float = 1e9, d_total: float = 1e10, bits: float = 4.0) -> CurveRecord:
    """A parabola in log-odds about `best`."""
    loss = 2.0 + CURVATURE * (odds(AT) - odds(best)) ** 2
    return CurveRecord(
        n=n, d_total=d_total, bits=bits, seed=0, s_total=d_total / (n * bits / 8), points=len(AT), optimum=best,
        interval=None, loss=2.0, refitted_law=None, published_law=None, note=None, fractions=tuple(AT.tolist()),
        losses=tuple(loss.tolist()),
    )  # fmt: skip


def split_fit(*curves: CurveRecord, law: FractionSurface = LAW, reach: float = 1.0, regret: float = 1e-3) -> FittedLaw:
    score = SplitScore(way="cell", curves=len(curves), mean_regret=regret, worst_regret=regret, interior=len(curves),
                       coverage=1.0, median_width=0.3)  # fmt: skip
    known = SplitEvidence(residuals=(-reach, reach), widening=0.1, scatter=0.5, scores=(score,))
    found = FractionDiagnostics(
        curves=curves, measured_optima=len(curves), without_inner_minimum=0, mae=0.0, mae_published_law=0.0, by_bits=(),
        split=known,
    )  # fmt: skip
    ranges = {"n": (1e8, 1e10), "d_total": (1e9, 1e12), "fraction": (0.005, 0.9)}
    return FittedLaw(law=law, diagnostics=found, ranges=ranges)


POINT = Inputs.of(n=1e9, d_total=1e10, bits=4, fraction=0.5)
CURVES = (curve(0.269), curve(0.269, n=2e9), curve(0.269, d_total=4e10), curve(0.269, bits=2.0))


@pytest.fixture
def plan(fitted: Callable[..., FittedLaw]) -> Callable[..., Recommendation]:
    def make(split: FittedLaw | None, **changes: object) -> Recommendation:
        asked = problem(params=1e9, tokens=1e10, bits=(4.0,), **changes)
        return recommend(fitted(scatter=0.01, noise=0.005), asked, split=split)

    return make


def test_flat_is_what_costs_less_than_the_tolerance(fitted: Callable[..., FittedLaw]) -> None:
    split = split_fit(*CURVES)
    judged = costs(split, fitted())
    advice = advise(split, fitted(), POINT, judged=judged, level=0.95, tolerance=0.01, draws=None)
    # On a parabola the tolerance is reached at sqrt(tolerance / curvature) = 1 in log-odds about .269; the lowest point
    # measured is .3, which is .15 above it.
    low, high = (float(odds(f)) - float(odds(advice.answer.fraction)) for f in advice.flat)
    assert low == pytest.approx(-1.0, abs=0.2)
    assert high == pytest.approx(1.0, abs=0.2)
    assert advice.nearest.fraction == pytest.approx(0.3)
    assert (advice.nearest.n, advice.nearest.bits) == (1e9, 4.0)


def test_the_law_that_was_cheaper_on_the_curves_answers(
    plan: Callable[..., Recommendation], fitted: Callable[..., FittedLaw], law: QatLoss
) -> None:
    own = float(optimal_fraction(law, n=1e9, d_total=1e10, bits=4).fraction[0])
    surface = plan(split_fit(*CURVES))
    assert surface.split is not None
    assert surface.split.answer.law == "fraction-surface"
    assert surface.choice.plan.fraction == pytest.approx(1 / (1 + np.e))
    assert surface.choice.fraction_interval == surface.split.answer.interval
    assert surface.split.other is not None
    assert surface.split.other.fraction == pytest.approx(own)
    # Curves that are lowest where the loss law says: now the surface's regret is the larger one.
    loss_law = plan(split_fit(curve(own), regret=0.05))
    assert loss_law.split is not None
    assert loss_law.split.answer.law == "qat-loss"
    assert loss_law.choice.plan.fraction == pytest.approx(own)
    assert costs(split_fit(curve(own)), fitted()).loss_law < 1e-3
    assert "split" in surface.as_dict()


def test_intervals_without_a_common_value_are_a_dispute(plan: Callable[..., Recommendation]) -> None:
    far = split_fit(curve(0.02), law=FractionSurface(c_0=-5.0, c_B=0.0, c_D=0.0), reach=0.1)
    advice = plan(far)
    assert advice.split is not None
    assert advice.split.disputed
    assert advice.status is PlanStatus.SPLIT_DISPUTED
    assert not advice.status.trustworthy
    assert Concern.SPLIT_DISPUTED in [flag.concern for flag in advice.flags]
    assert not plan(split_fit(*CURVES, reach=3.0)).split.disputed  # type: ignore[union-attr]


def test_a_split_that_no_curve_was_held_against_says_so(plan: Callable[..., Recommendation]) -> None:
    assert Concern.SPLIT_UNCHECKED in [flag.concern for flag in plan(None).flags]
    assert Concern.SPLIT_UNCHECKED not in [flag.concern for flag in plan(split_fit(*CURVES)).flags]
    assert Concern.SPLIT_UNCHECKED not in [flag.concern for flag in plan(None, fraction=0.3).flags]
    with pytest.raises(UsageError, match="split chooses the fraction"):
        plan(split_fit(*CURVES), fraction=0.3)
    with pytest.raises(UsageError, match="give them with split"):
        plan(None, tolerance=0.01)


def test_beyond_the_measured_fractions_the_law_is_not_asked(plan: Callable[..., Recommendation]) -> None:
    high = plan(split_fit(curve(0.9), law=FractionSurface(c_0=9.0, c_B=0.0, c_D=0.0)))
    assert high.choice.plan.fraction == pytest.approx(0.9)


def test_what_no_split_fit_can_be(fitted: Callable[..., FittedLaw], plan: Callable[..., Recommendation]) -> None:
    with pytest.raises(UsageError, match="no measured curves; fit fraction-surface"):
        evidence_of(fitted())
    with pytest.raises(UsageError, match="holds no measured curve"):
        evidence_of(split_fit())
    with pytest.raises(UsageError, match="counts nonembedding parameters"):
        plan(replace(split_fit(*CURVES), n_convention="nonembedding"))


def test_the_plan_leads_with_what_is_flat_on_one_screen(plan: Callable[..., Recommendation]) -> None:
    advice = plan(split_fit(*CURVES))
    short = to_text(plan_sections(advice))
    assert short.count("\n") + 1 <= LINES
    assert max(map(len, short.splitlines())) <= 80
    text = " ".join(short.split())
    assert "QAT fractions from " in text
    assert "cost less than one run scatters" in text
    assert "The law qat-loss says " in text
    assert "The nearest measured curve (1B parameters, 10B tokens, 4 bits) is lowest at 0.300" in text
    assert "On 4 measured curves splits cost" in text
    assert "The split" in details(advice)
    given = " ".join(to_text(plan_sections(plan(split_fit(*CURVES), tolerance=0.02))).split())
    assert "cost less than 0.02 nats per token" in given
