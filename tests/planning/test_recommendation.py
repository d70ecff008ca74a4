"""Recommendations: what they contain, how sure they say they are, and what they are held against."""

import dataclasses
import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from support.problems import details, problem

from qatplan.cli.output import plain
from qatplan.errors import UsageError
from qatplan.laws import Chinchilla, FittedLaw, Inputs, QatFraction, QatLoss, Status, get, optimal_fraction
from qatplan.planning.comparisons import full_precision, rules
from qatplan.planning.given_model import continuation
from qatplan.planning.intervals import assess, draws_of, loss_intervals
from qatplan.planning.objective import Objective
from qatplan.planning.recommend import default_bits, recommend
from qatplan.planning.solve import solve
from qatplan.planning.trust import PlanStatus

Build = Callable[..., FittedLaw]
MEMORY = problem(bits=(2.0, 3.0, 4.0, 8.0), memory=4 * 2**30, tokens=1e12)
SIZE = problem(bits=(2.0, 4.0), params=1e9, tokens=2e11)


def test_json_has_what_scripts_rely_on(fitted: Build) -> None:
    advice = recommend(fitted(scatter=0.01), MEMORY)
    said = json.loads(json.dumps(plain(advice.as_dict()), allow_nan=False))
    assert {"choice", "alternatives", "assumptions", "extrapolation", "status", "flags"} <= said.keys()
    choice = said["choice"]
    assert {
        "bits", "params", "tokens", "fraction", "loss", "loss_interval", "fraction_interval", "memory_bytes"
    } <= choice.keys()  # fmt: skip
    assert choice["fp_tokens"] + choice["qat_tokens"] == pytest.approx(choice["tokens"], abs=1)
    assert choice["memory_bytes"] <= 4 * 2**30
    assert said["memory"]["total_bytes"] <= 4 * 2**30
    assert said["memory"]["total_bytes"] == choice["memory_bytes"]
    assert [o["bits"] for o in said["alternatives"]] != []
    assert choice["loss"] == min(o["loss"] for o in [choice, *said["alternatives"]])
    assert choice["loss_interval"][0] < choice["loss"] < choice["loss_interval"][1]
    assert choice["new_run_interval"][0] <= choice["loss_interval"][0]
    assert sum(o["probability_best"] for o in [choice, *said["alternatives"]]) == pytest.approx(1.0)
    assert choice["binding"] == ["memory", "tokens"]
    assert said["with_twice_the_budget"]["memory"] < choice["loss"]
    assert said["status"] == "good"


def best_split(law: QatLoss, bits: float) -> tuple[float, float]:
    """(fraction, loss) of 1e9 parameters on 2e11 tokens, by bounded minimisation in logit(fraction)."""

    def loss(logit: float) -> float:
        return float(law.predict(Inputs.of(n=1e9, d_total=2e11, bits=bits, fraction=1 / (1 + math.exp(-logit))))[0])

    found = minimize_scalar(loss, bounds=(-12, 12), method="bounded", options={"xatol": 1e-7})
    return 1 / (1 + math.exp(-found.x)), found.fun


def test_uncertainty_is_that_of_the_draws(fitted: Build, law: QatLoss) -> None:
    """Fraction interval and winners against SciPy's minimum of each draw's law."""
    fit = fitted(scatter=0.02)
    assert fit.draws is not None
    fit = dataclasses.replace(fit, draws=fit.draws[:30])
    objective = Objective.of(fit)
    plans = [solve(objective, SIZE, bits) for bits in (2.0, 4.0)]
    said = assess(draws_of(fit, 0.9), objective, plans, free_split=True)
    best = [[best_split(law.from_coordinates(theta), bits) for bits in (2.0, 4.0)] for theta in fit.draw_coordinates()]
    fractions, losses = np.moveaxis(np.array(best), 2, 0)
    for i in range(2):
        expected = np.quantile(fractions[:, i], [0.05, 0.95], method="weibull")
        assert said[i].fraction == pytest.approx(tuple(expected), abs=1e-5)
        x = Inputs.of(n=1e9, d_fp=plans[i].d_fp, d_qat=plans[i].d_qat, bits=plans[i].bits)
        low, high = fit.predict_interval(x, 0.9)
        assert said[i].loss == pytest.approx((low[0], high[0]), rel=1e-12)
    low, high = fit.predict_interval(
        Inputs.of(n=1e9, d_fp=plans[0].d_fp, d_qat=plans[0].d_qat, bits=2.0), 0.9, "prediction"
    )
    assert loss_intervals(draws_of(fit, 0.9), plans[0].x)[1] == pytest.approx((low[0], high[0]), rel=1e-12)
    wins = np.argmin(losses, axis=1)
    assert [doubt.share_best for doubt in said] == pytest.approx([np.mean(wins == 0), np.mean(wins == 1)], abs=1e-12)


def test_without_draws_intervals_are_null_and_said_so(fitted: Build) -> None:
    advice = recommend(fitted(), MEMORY)
    choice = advice.as_dict()["choice"]
    assert choice["loss_interval"] is choice["fraction_interval"] is choice["probability_best"] is None
    assert any(flag.concern == "no-intervals" for flag in advice.flags)
    assert "no interval: the fit has no draws" in details(advice)


def test_identical_widths_are_indistinguishable(fitted: Build) -> None:
    """In 4 GiB the draws leave 4 against 5 bits open; at one size 4.001 bits always beat 4, by next to nothing."""
    close = recommend(fitted(scatter=0.01), problem(MEMORY, bits=(4.0, 5.0)))
    assert close.alternatives[0].within_noise is True
    assert 0.05 < (close.alternatives[0].probability_best or 0) < 0.5
    assert any(flag.concern == "indistinguishable" for flag in close.flags)
    assert "bits are indistinguishable here" in details(close)
    tiny = recommend(fitted(scatter=0.01), problem(bits=(4.0, 4.001), params=1e9, tokens=2e11))
    assert (tiny.alternatives[0].within_noise, tiny.alternatives[0].within_scatter) == (False, True)
    assert "differ by less than one run scatters" in details(tiny)
    assert recommend(fitted(), problem(bits=(4.0, 4.001), params=1e9, tokens=2e11)).alternatives[0].within_noise is True
    far = recommend(fitted(scatter=0.0001), problem(bits=(1.0, 8.0), params=1e9, tokens=2e11))
    assert far.alternatives[0].within_noise is False
    assert far.choice.probability_best == 1.0


def test_rules_waste_what_the_best_split_saves(law: QatLoss) -> None:
    objective = Objective(law=law)
    plan = solve(objective, SIZE, 2.0)
    ten, none, scratch = rules(objective, plan)
    assert ten.loss is not None
    assert ten.wasted_tokens is not None
    assert ten.loss == pytest.approx(float(objective.loss(1e9, 2e11, 2.0, 0.1)[0]))
    # The definition itself: the best split of what is not wasted reaches the rule's loss.
    saved = float(objective.best(1e9, 2e11 - ten.wasted_tokens, 2.0)[1][0])
    assert saved == pytest.approx(ten.loss, abs=1e-9)
    assert 0 < ten.wasted_share < 1
    for rule in (none, scratch):
        assert rule.loss is rule.wasted_tokens is None
        assert "outside the law's domain" in rule.source


def test_ends_without_a_value_are_bounded_by_the_last_fraction_fitted(law: QatLoss) -> None:
    """The law rises from its optimum to both ends, so its value at the last fitted fraction is the least they cost."""
    objective = Objective(law=law)
    plan = solve(objective, SIZE, 2.0)
    _, none, scratch = rules(objective, plan, fitted_fractions=(0.03, 0.9))
    for rule, fraction, nearer in ((none, 0.03, 0.001), (scratch, 0.9, 0.999)):
        assert rule.at_least
        assert rule.loss == pytest.approx(float(objective.loss(1e9, 2e11, 2.0, fraction)[0]))
        assert rule.loss < float(objective.loss(1e9, 2e11, 2.0, nearer)[0])
        saved = float(objective.best(1e9, 2e11 - rule.wasted_tokens, 2.0)[1][0])
        assert saved == pytest.approx(rule.loss, abs=1e-9)
    # An optimum outside the fitted fractions bounds nothing on its side.
    _, none, _ = rules(objective, plan, fitted_fractions=(0.99, 0.999))
    assert none.loss is None


def test_runs_at_the_ends_measure_them(law: QatLoss) -> None:
    objective = Objective(law=law)
    plan = solve(objective, SIZE, 2.0)

    def run(n: float, d: float, fraction: float, loss: float, **more: object) -> dict[str, object]:
        return {"n_total": n, "d_total": d, "d_fp": d * (1 - fraction), "d_qat": d * fraction, "bits": 2.0,
                "schedule": "classic", "seed": 0, "corpus_digest": "a", "loss": loss, **more}  # fmt: skip

    far, near = (1e6, 1e8), (1e8, 1e10)
    rows = [
        run(*far, 0.5, 4.0), run(*far, 0.0, 8.0, schedule="post-training"),
        run(*near, 0.4, 3.0), run(*near, 0.2, 2.5), run(*near, 0.0, 5.0, schedule="post-training"),
        run(*near, 1.0, 2.6), run(*near, 1.0, 2.7),
        run(*near, 0.3, 2.5, seed=1), run(*near, 0.0, 2.5 * 8, seed=1),
        run(*near, 0.3, 1.0, bits=4.0), run(*near, 0.3, 1.0, schedule="fused"), run(*near, 0.0, 9.0, seed=2),
    ]  # fmt: skip
    ten, none, scratch = rules(objective, plan, runs=rows, fitted_fractions=(0.03, 0.9))
    assert ten.source == "the law"
    best = plan.loss
    # Twice and eight times the best classic loss of the nearest setting: the mean of logs is a factor of four.
    assert none.loss == pytest.approx(best * 4)
    assert "100M parameters, 10B tokens and 2 bits (2 pairs of runs" in none.source
    assert scratch.loss == pytest.approx(best * 2.6 / 2.5)
    assert not none.at_least
    saved = float(objective.best(1e9, 2e11 - scratch.wasted_tokens, 2.0)[1][0])
    assert saved == pytest.approx(scratch.loss, abs=1e-9)


def test_rules_at_both_ends_where_the_law_allows_them(law: QatLoss) -> None:
    """Without the interaction term QAT from scratch has a value; with flat QAT tokens no QAT has one too."""
    objective = Objective(law=dataclasses.replace(law, lam=0.0))
    _, none, scratch = rules(objective, solve(objective, SIZE, 2.0))
    assert scratch.loss_cost == pytest.approx(0.0, abs=1e-12)
    assert none.loss is None
    flat = Objective(law=dataclasses.replace(law, omega=0.0, rho=0.0))
    _, none, _ = rules(flat, solve(flat, problem(SIZE, fraction=0.2), 2.0))
    assert none.loss is not None


def test_tokens_to_match_full_precision_or_never(law: QatLoss) -> None:
    objective = Objective(law=law)
    plan = solve(objective, SIZE, 4.0)
    held = full_precision(objective, plan)
    assert held.tokens is not None
    assert held.loss == pytest.approx(float(law.predict(Inputs.of(n=1e9, d_total=2e11))[0]))
    assert float(objective.best(1e9, held.tokens, 4.0)[1][0]) == pytest.approx(held.loss, abs=1e-9)
    assert held.tokens > plan.tokens
    # theta 2^(-kappa bits) above what tokens can still gain forbids it: floor = E + A/N^alpha + theta 2^(-kappa bits).
    coarse = Objective(law=dataclasses.replace(law, theta=5.0))
    held = full_precision(coarse, solve(coarse, SIZE, 2.0))
    assert held.tokens is held.times is None
    assert held.verdict.startswith("never")
    assert held.floor == pytest.approx(law.E + law.A / 1e9**law.alpha + 5 * 2 ** (-law.kappa * 2), abs=1e-6)


def test_continuation_balances_and_pays(fitted: Build, law: QatLoss) -> None:
    asked = problem(bits=(2.0,), params=1e9, fp_tokens=1e11, tokens=2e10)
    advice = recommend(fitted(scatter=0.01), asked)
    held = advice.continuation
    assert held is not None
    assert held.balanced_qat_tokens is not None
    total = 1e11 + held.balanced_qat_tokens
    best = optimal_fraction(law, n=1e9, d_total=total, bits=2.0).fraction[0]
    assert held.balanced_qat_tokens / total == pytest.approx(best, abs=1e-8)
    assert held.full_precision_loss == pytest.approx(float(law.predict(Inputs.of(n=1e9, d_total=1e11))[0]))
    assert [loss for _, loss in held.curve] == sorted((loss for _, loss in held.curve), reverse=True)
    assert advice.rules == ()
    assert advice.choice.fraction_interval is None
    assert advice.cost.flops_fp == 0
    assert "QAT tokens pay until" in details(advice)


def test_target_loss_compares_widths_at_equal_flops(fitted: Build) -> None:
    advice = recommend(fitted(scatter=0.005), problem(bits=(2.0, 4.0), target_loss=2.3, params=1e9))
    assert advice.choice.plan.loss == pytest.approx(2.3, abs=1e-9)
    assert advice.choice.plan.flops <= advice.alternatives[0].plan.flops
    assert advice.choice.probability_best is not None
    assert "fewest FLOPs" in details(advice)


def test_extrapolation_is_measured_and_refused_beyond_the_limit(fitted: Build) -> None:
    inside = recommend(fitted(), SIZE)
    assert (inside.extrapolation.factor, inside.status) == (1.0, PlanStatus.GOOD)
    near = recommend(fitted(), problem(SIZE, params=8e9))
    assert near.extrapolation.factor == pytest.approx(4.0)
    assert near.status is PlanStatus.GOOD
    far = recommend(fitted(), problem(SIZE, params=1e11))
    assert far.extrapolation.factor == pytest.approx(50.0)
    assert far.status is PlanStatus.EXTRAPOLATES
    assert not far.status.trustworthy
    allowed = recommend(fitted(), problem(SIZE, params=1e11, extrapolation_limit=60.0))
    assert allowed.status is PlanStatus.GOOD
    narrow = fitted(ranges={"bits": (1.0, 4.0), "n": (1e8, 1e10)})
    assert recommend(narrow, problem(SIZE, bits=(5.0,))).status is PlanStatus.GOOD
    assert recommend(narrow, problem(SIZE, bits=(8.0,))).status is PlanStatus.EXTRAPOLATES
    early = recommend(fitted(), problem(SIZE, fraction=0.0005))
    assert early.extrapolation.factors["fraction"] == pytest.approx(20.0)
    assert early.status is PlanStatus.EXTRAPOLATES
    unknown = recommend(fitted(ranges={}), SIZE)
    assert unknown.extrapolation.factor is None
    assert any("records no ranges" in str(flag) for flag in unknown.flags)


def test_a_loss_that_falls_all_the_way_to_no_qat_is_a_plan_not_to_be_trusted(fitted: Build, law: QatLoss) -> None:
    """Exponents that a small sweep drives to (almost) nothing leave the law without a value at fraction 0 itself."""
    advice = recommend(fitted(law=dataclasses.replace(law, omega=1e-20, rho=0.0)), SIZE)
    assert 0 < advice.choice.plan.fraction < 1e-15
    assert math.isfinite(advice.choice.plan.loss)
    assert advice.status is PlanStatus.EXTRAPOLATES
    assert any("falls all the way to no QAT" in str(flag) for flag in advice.flags)
    assert "hardly any QAT" in details(advice)


@pytest.mark.filterwarnings("ignore:overflow")
def test_where_draws_diverge_at_the_plan_its_interval_is_unbounded(fitted: Build, law: QatLoss) -> None:
    """A large power of D_qat: with next to no QAT its term is beyond all numbers."""
    falling = dataclasses.replace(law, omega=1e-20, rho=0.0)
    diverging = dataclasses.replace(law, omega=25.0)
    draws = np.repeat([list(falling.params().values()), list(diverging.params().values())], 10, axis=0)
    text = details(recommend(dataclasses.replace(fitted(law=falling), draws=draws), SIZE))
    assert "to unbounded for the mean" in text
    assert "nan" not in text


def test_a_fit_that_failed_its_checks_gives_no_trusted_plan(fitted: Build) -> None:
    advice = recommend(fitted(status=Status.UNDETERMINED), SIZE)
    assert advice.status is PlanStatus.UNCERTAIN_FIT
    assert "Not to be relied upon" in details(advice)


def test_widths_that_do_not_fit_are_listed_with_the_reason(fitted: Build) -> None:
    asked = problem(bits=(2.0, 8.0), params=1e10, tokens=1e12, memory=5 * 2**30)
    advice = recommend(fitted(), asked)
    assert advice.choice.plan.bits == 2
    assert "memory binds at 8 bits" in advice.excluded["8"]
    with pytest.raises(UsageError, match="memory binds at 2 bits"):
        recommend(fitted(), problem(asked, memory=2**30))


def test_convention_of_n_follows_the_fit(fitted: Build) -> None:
    """A fit on non-embedding parameters is asked at non-embedding parameters."""
    total = recommend(fitted(), SIZE)
    without = recommend(fitted(n_convention="nonembedding"), SIZE)
    assert total.choice.plan.n == 1e9
    assert without.choice.plan.n == pytest.approx(without.choice.plan.layout.nonembedding)
    assert without.choice.plan.loss > total.choice.plan.loss


def test_laws_without_a_split_or_without_bits(fitted: Build) -> None:
    with pytest.raises(UsageError, match="knows no bit width"):
        recommend(fitted(law=Chinchilla(E=1.7, A=400, alpha=0.34, C=1000, beta=0.36)), SIZE)
    with pytest.raises(UsageError, match="gives a fraction and no loss"):
        recommend(fitted(law=QatFraction()), SIZE)
    # Arbitrary values: the law of effective precision sees bits and no split.
    precision = get("precision").for_inputs(Inputs.of(n=1e8, d_total=1e10, fraction=1.0, bits=4.0))
    advice = recommend(fitted(law=precision), SIZE)
    assert advice.choice.plan.fraction == 1.0
    assert advice.rules == ()
    assert any("knows no split" in line for line in advice.assumptions)


def test_fused_cooldown_is_advised_from_four_bits_on(fitted: Build) -> None:
    four = recommend(fitted(), problem(SIZE, bits=(4.0,)))
    two = recommend(fitted(), problem(SIZE, bits=(2.0,)))
    assert four.fusion.advised is True
    assert two.fusion.advised is False
    assert "second hand" in four.fusion.source
    low, high = four.fusion.saved_tokens_range
    objective = Objective.of(fitted())
    for tokens, gain in ((low, 0.0006), (high, 0.017)):
        fused = four.choice.plan.loss + math.log(1 - gain)
        assert float(objective.best(1e9, 2e11 + tokens, 4.0)[1][0]) == pytest.approx(fused, abs=1e-9)
    assert "such gains are worth" in details(four)
    given = recommend(fitted(), problem(bits=(4.0,), params=1e9, fp_tokens=1e11, tokens=1e10))
    assert given.fusion.advised is False
    assert "from before the cooldown" in details(given)


def test_default_widths_are_the_fitted_ones(fitted: Build) -> None:
    assert default_bits(fitted(ranges={"bits": (1.0, 4.0)})) == (1, 2, 3, 4)
    assert default_bits(fitted(ranges={"bits": (1.58, 1.58)})) == (1.58,)
    assert default_bits(None) == (2, 3, 4, 8)


def test_memo_gives_every_number_a_unit(fitted: Build) -> None:
    text = details(recommend(fitted(scatter=0.01), MEMORY))
    for section in ("Recommendation", "Why", "What it beat", "Against the usual rules", "Full precision", "Schedule",
                    "What it rests on", "What would change it"):  # fmt: skip
        assert f"{section}\n" in text
    for unit in ("nats per token", "bits", "tokens", "parameters", "FLOPs", "h100 hours", "kWh", "GiB"):
        assert unit in text
    assert "nan" not in text
    assert "None" not in text


def test_continuation_needs_balance_even_when_qat_is_cheap(law: QatLoss) -> None:
    objective = Objective(law=dataclasses.replace(law, phi=1e-9))
    plan = solve(objective, problem(bits=(4.0,), params=1e9, fp_tokens=1e11, tokens=1e9), 4.0)
    held = continuation(objective, plan)
    assert held.balanced_qat_tokens is not None
    assert math.isfinite(held.balanced_qat_tokens)


def test_an_interval_that_leaves_out_its_estimate_is_flagged(fitted: Build, law: QatLoss) -> None:
    fit = fitted(scatter=0.01)
    assert fit.draws is not None
    asked = problem(SIZE, bits=(4.0,))
    assert not any(flag.concern == "fraction-uncertain" for flag in recommend(fit, asked).flags)
    column = [p.name for p in law.parameters()].index("xi")
    shifted = fit.draws.copy()
    shifted[:, column] *= 3
    doubtful = recommend(dataclasses.replace(fit, draws=shifted), asked)
    low, high = doubtful.choice.fraction_interval or (0.0, 1.0)
    assert not low <= doubtful.choice.plan.fraction <= high
    assert any(flag.concern == "fraction-uncertain" for flag in doubtful.flags)


def test_sixteen_bits_is_full_precision(fitted: Build, law: QatLoss) -> None:
    """No QAT token, the loss and draws of a full-precision run, and no advice about a split or a schedule."""
    fit = fitted(scatter=0.01)
    advice = recommend(fit, problem(bits=(16.0,), params=1e9, tokens=2e11))
    plan = advice.choice.plan
    full = Inputs.of(n=1e9, d_total=2e11)
    assert (plan.fraction, plan.d_qat, plan.d_fp) == (0.0, 0.0, 2e11)
    assert plan.loss == pytest.approx(float(law.predict(full)[0]), rel=1e-12)
    low, high = fit.predict_interval(full, 0.95)
    assert advice.choice.loss_interval == pytest.approx((low[0], high[0]), rel=1e-12)
    assert advice.choice.fraction_interval is None
    assert advice.rules == ()
    assert (advice.cost.flops_qat, advice.fusion.advised) == (0.0, False)
    assert not {"split-unchecked", "fraction-at-end"} & {flag.concern for flag in advice.flags}
    assert advice.memory.as_dict()["format"] == "bf16"
    text = details(advice)
    assert "Train 1B parameters in full precision (16 bits) on 200B tokens." in text
    assert "QAT fraction" not in text
    assert "Schedule" not in text
    assert "QAT token" not in text


def test_full_precision_stands_beside_quantized_widths(fitted: Build) -> None:
    """Each draw's winner is judged at its own best split; a quantized width's answer is what it was without 16."""
    fit = fitted(scatter=0.01)
    both = recommend(fit, problem(bits=(4.0, 16.0), params=1e9, tokens=2e11))
    alone = recommend(fit, problem(bits=(4.0,), params=1e9, tokens=2e11))
    assert [option.plan.bits for option in both.options] == [16.0, 4.0]
    assert both.alternatives[0].plan.d_qat == alone.choice.plan.d_qat
    assert both.alternatives[0].loss_interval == alone.choice.loss_interval
    assert both.alternatives[0].fraction_interval == alone.choice.fraction_interval
    assert both.choice.probability_best == pytest.approx(1.0)
    # Within a memory the model of 16 bits is smaller, and hours buy it tokens without any of QAT.
    hours = problem(bits=(16.0,), memory=4 * 2**30, gpu_hours=1e4, qat_slowdown=2.0)
    slow, quick = (recommend(fit, problem(hours, qat_slowdown=factor)).choice.plan for factor in (2.0, 1.0))
    assert (slow.n, slow.d_fp, slow.loss) == (quick.n, quick.d_fp, quick.loss)
    assert slow.memory_bytes <= 4 * 2**30
    reached = recommend(fit, problem(bits=(16.0,), params=1e9, target_loss=2.3)).choice.plan
    assert (reached.loss, reached.fraction) == (pytest.approx(2.3, abs=1e-9), 0.0)


def test_a_fraction_is_refused_where_the_law_cannot_use_it(fitted: Build) -> None:
    precision = get("precision").for_inputs(Inputs.of(n=1e8, d_total=1e10, fraction=1.0, bits=4.0))
    with pytest.raises(UsageError, match=r"fraction 0\.3 has no meaning for law precision"):
        recommend(fitted(law=precision), problem(SIZE, fraction=0.3))
    assert recommend(fitted(law=precision), problem(SIZE, fraction=0.0)).choice.plan.fraction == 0.0
    only = recommend(fitted(), problem(bits=(4.0, 16.0), params=1e9, tokens=2e11, fraction=0.1))
    assert "fraction has no meaning at 16 bits" in only.excluded["16"]
