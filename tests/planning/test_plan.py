"""Which advice a fit allows, what the runs add to the problem, and the tables for notebooks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.problems import problem

from qatplan.errors import UsageError
from qatplan.laws import FittedLaw, QatFraction
from qatplan.planning.fraction_only import FractionAdvice
from qatplan.planning.plan import plan
from qatplan.planning.recommend import Recommendation
from qatplan.results import Plan

Build = Callable[..., FittedLaw]
SIZE = problem(params=1e9, tokens=2e11)


def run(speed: float | None, bits: float | None = None) -> dict[str, object]:
    return {"n_total": 1000, "device": "cpu", "tokens_per_second": speed, "bits": bits, "d_qat": 10 if bits else 0}


def test_the_law_decides_what_is_advised(fitted: Build) -> None:
    full = plan(fitted(), SIZE)
    assert isinstance(full, Recommendation)
    assert full.problem.bits == tuple(float(b) for b in range(1, 9))
    assert isinstance(plan(fitted(law=QatFraction()), SIZE), FractionAdvice)
    published = plan(None, SIZE, law="qat-fraction")
    assert isinstance(published, FractionAdvice)
    assert [split.bits for split in published.options] == [4, 2, 3, 8]


@pytest.mark.parametrize(
    ("named", "has_fit", "words"),
    [(None, False, "give a fit"), ("qat-loss", False, "needs a fit"), ("chinchilla", True, "holds law qat-loss")],
)
def test_a_law_that_does_not_fit_is_refused(fitted: Build, named: str | None, has_fit: bool, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        plan(fitted() if has_fit else None, SIZE, law=named)


def test_runs_measure_the_slowdown_unless_it_is_given(fitted: Build) -> None:
    rows = [run(30.0), run(20.0, bits=4.0)]
    hours = problem(params=1e9, gpu_hours=300.0, bits=(4.0,))
    measured = plan(fitted(), hours, runs=rows)
    assert isinstance(measured, Recommendation)
    assert measured.problem.training.slowdown == pytest.approx(1.5)
    assert "1.500 times as long" in measured.remarks[0]
    given = plan(fitted(), problem(hours, qat_slowdown=2.0), runs=rows)
    assert isinstance(given, Recommendation)
    assert (given.problem.training.slowdown, given.remarks) == (2.0, ())
    unknown = plan(fitted(), hours, runs=[run(30.0)])
    assert isinstance(unknown, Recommendation)
    assert unknown.problem.training.slowdown == 1.0
    assert "--qat-slowdown says otherwise" in unknown.remarks[0]


def test_frames_have_a_row_a_bit_width_with_the_choice_first(fitted: Build) -> None:
    pytest.importorskip("pandas")
    advice = plan(fitted(scatter=0.01), problem(params=1e9, tokens=2e11, bits=(2.0, 4.0)))
    assert isinstance(advice, Recommendation)
    frame = Plan(advice).to_frame()
    assert frame["bits"].tolist() == [option.plan.bits for option in advice.options]
    assert frame["loss"].tolist() == [option.plan.loss for option in advice.options]
    assert (frame["loss_low"][0], frame["loss_high"][0]) == advice.choice.loss_interval
    assert "loss_interval" not in frame
    split = Plan(plan(None, problem(params=1e9, tokens=2e11, bits=(2.0, 4.0)), law="qat-fraction")).to_frame()
    assert split["bits"].tolist() == [2.0, 4.0]
    assert split["loss"].isna().all()
    assert split["fraction_low"].isna().all()


def test_twice_a_budget_is_solved_anew(fitted: Build) -> None:
    asked = problem(params=1e9, tokens=2e11, bits=(4.0,))
    advice = plan(fitted(), asked)
    twice = plan(fitted(), problem(asked, tokens=4e11))
    assert isinstance(advice, Recommendation)
    assert isinstance(twice, Recommendation)
    assert advice.sensitivity == {"tokens": twice.choice.plan.loss}
