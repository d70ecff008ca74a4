"""The fraction law for a given full-precision model, and the published recipes that its answer stands beside."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
from scipy.optimize import brentq
from support.problems import problem, words

from qatplan.errors import UsageError
from qatplan.laws import FittedLaw, QatFraction
from qatplan.laws.qat_fraction import PUBLISHED_A
from qatplan.planning.evidence.teams import RECIPES
from qatplan.planning.fraction_only import advise
from qatplan.wording.plan import LINES, plan_sections
from qatplan.wording.text import to_text

Build = Callable[..., FittedLaw]
EIGHT = {"params": 8e9, "fp_tokens": 1.5e13}


def balanced(d_fp: float, size: float, a: float) -> float:
    """QAT tokens at which the given tokens are the law's best share, by SciPy."""

    def excess(d_qat: float) -> float:
        total = d_fp + d_qat
        return total * math.exp(-a / math.log(total / size)) - d_qat

    return float(brentq(excess, 1e-6 * d_fp, 100 * d_fp, xtol=1e-3, rtol=1e-13))


@pytest.mark.parametrize("bits", [2.0, 4.0])
def test_the_given_tokens_are_the_best_share(fitted: Build, bits: float) -> None:
    said = advise(problem(bits=(bits,), **EIGHT)).choice
    expected = balanced(1.5e13, 8e9 * bits / 8, PUBLISHED_A)
    assert said.balanced_qat_tokens == pytest.approx(expected, rel=1e-9)
    assert said.tokens - 1.5e13 == pytest.approx(expected, rel=1e-9)
    assert said.fraction == pytest.approx(float(QatFraction().fraction(said.tokens / (8e9 * bits / 8))), rel=1e-9)
    assert said.qat_per_byte == pytest.approx(expected / (8e9 * bits / 8), rel=1e-9)
    assert said.cost.flops_fp == 0
    own = advise(problem(bits=(bits,), **EIGHT), fitted(law=QatFraction(a=5.0))).choice
    assert own.balanced_qat_tokens == pytest.approx(balanced(1.5e13, 8e9 * bits / 8, 5.0), rel=1e-9)


def test_a_budget_pays_for_qat_alone() -> None:
    advice = advise(problem(bits=(4.0,), tokens=2e10, **EIGHT))
    said = advice.choice
    assert said.tokens - 1.5e13 == pytest.approx(2e10)
    assert said.binding == ("tokens",)
    assert said.fraction == pytest.approx(2e10 / (1.5e13 + 2e10))
    text = words(plan_sections(advice))
    assert "train 20B with 4-bit weights, all that the budget pays; the law's best would be 13.2T." in text
    ample = advise(problem(bits=(4.0,), tokens=1e15, **EIGHT)).choice
    assert ample.binding == ()
    assert ample.balanced_qat_tokens == pytest.approx(ample.tokens - 1.5e13, rel=1e-9)


def test_recipes_of_teams_stand_beside_it_with_their_sources() -> None:
    advice = advise(problem(bits=(4.0,), **EIGHT))
    given = json.loads(json.dumps(advice.as_dict()))["given_model"]
    assert given["fp_tokens"] == 1.5e13
    assert [recipe["qat_tokens"] for recipe in given["published_recipes"]] == [202 * 10**9, 68 * 10**9]
    assert all(recipe.source and recipe.dated for recipe in RECIPES)
    assert "say which QAT is meant" in given["question"]
    assert "objective-not-said" in {flag.concern for flag in advice.flags}
    text = to_text(plan_sections(advice))
    assert "Which QAT is meant?" in text
    assert "arXiv 2502.02631, 2025-02" in text
    for details in (False, True):
        lines = to_text(plan_sections(advice, details=details)).splitlines()
        assert max(map(len, lines)) <= 80
    crowded = advise(problem(bits=(2.0, 4.0, 8.0), memory=6e9, gpu_hours=500.0, price_per_hour=2.0, **EIGHT))
    assert max(len(to_text(plan_sections(said)).splitlines()) for said in (advice, crowded)) <= LINES


def test_without_a_given_model_nobody_is_asked() -> None:
    advice = advise(problem(bits=(4.0,), params=1e9, tokens=5e10))
    assert "given_model" not in advice.as_dict()
    assert "objective-not-said" not in {flag.concern for flag in advice.flags}
    assert "Which QAT" not in words(plan_sections(advice))


def test_the_distance_from_the_papers_runs_is_said() -> None:
    far = advise(problem(bits=(8.0,), **EIGHT))
    said = [flag.sentence for flag in far.flags if flag.concern == "extrapolation"]
    assert len(said) == 3
    assert "8B parameters are 3.64 times the largest measured (86M to 2.2B)" in said
    assert "Outside what was measured: 8B parameters" in words(plan_sections(far))
    near = advise(problem(bits=(4.0,), params=1e9, tokens=5e10))
    assert "extrapolation" not in {flag.concern for flag in near.flags}


def test_a_model_of_too_few_tokens_has_no_share() -> None:
    with pytest.raises(UsageError, match="it needs S_total > 1"):
        advise(problem(bits=(4.0,), params=8e9, fp_tokens=1e9))
    some = advise(problem(bits=(1.0, 8.0), params=8e9, fp_tokens=5e9))
    assert [split.bits for split in some.options] == [1.0]
    assert "S_total > 1" in some.excluded["8"]
