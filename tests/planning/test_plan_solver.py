"""The solver against brute force, its monotonicity, and what it says when there is no plan."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.problems import problem

from qatplan.errors import UsageError
from qatplan.laws import FittedLaw, QatLoss
from qatplan.models.layout import of_architecture
from qatplan.models.memory import estimate
from qatplan.models.presets import preset
from qatplan.planning.given_model import WORTHWHILE, balanced_qat_tokens, worthwhile_qat_tokens
from qatplan.planning.objective import Objective
from qatplan.planning.solve import solve

Build = Callable[..., FittedLaw]
MILLION = 1_000_000
LOGIT = np.linspace(-20.0, 20.0, MILLION)
LOG_F, LOG_G = -np.logaddexp(0.0, -LOGIT), -np.logaddexp(0.0, LOGIT)


def random_law(rng: np.random.Generator) -> QatLoss:
    """Coefficients drawn at random, for the tests alone."""

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    return QatLoss(
        E=between(0.5, 2.5), A=between(50, 1000), alpha=between(0.2, 0.5), C=between(200, 3000), beta=between(0.2, 0.5),
        theta=between(0, 2), kappa=between(0.3, 2), phi=between(0.05, 5), chi=between(0.1, 1.5), psi=between(-0.1, 0.3),
        omega=between(0.1, 1.2), lam=between(0.05, 5), mu=between(-0.3, 1.5), nu=between(-0.1, 0.3),
        xi=between(0.1, 1.2), rho=between(0, 0.6),
    )  # fmt: skip


def formula(law: QatLoss, n: float, d: float, bits: float, log_f: np.ndarray, log_g: np.ndarray) -> np.ndarray:
    """The law written out once more, independently of the package (arXiv 2509.22935), at many fractions."""
    log_s = math.log(d / (n * bits / 8))
    floor = law.E + law.A / n**law.alpha + law.C / d**law.beta + law.theta * 2 ** (-law.kappa * bits)
    penalty = law.phi * 2 ** (-law.chi * bits) / n**law.psi * np.exp(-law.omega * (log_s + log_f))
    both = np.exp(-law.xi * (log_s + log_g) - law.rho * (log_s + log_f))
    return floor + penalty + law.lam * 2 ** (-law.mu * bits) / n**law.nu * both


def test_fraction_equals_brute_force_on_200_random_problems() -> None:
    """Against the best of a hundred thousand fractions, written out from the formula: within 1e-6 in loss."""
    rng = np.random.default_rng(2026)
    for _ in range(200):
        law = random_law(rng)
        n, d = 10 ** rng.uniform(5, 10), 10 ** rng.uniform(8, 13)
        bits = float(rng.choice([1, 1.58, 2, 3, 4, 6, 8]))
        plan = solve(Objective(law=law), problem(bits=(bits,), params=n, tokens=d), bits)
        brute = float(formula(law, n, d, bits, LOG_F[::10], LOG_G[::10]).min())
        assert plan.loss == pytest.approx(brute, abs=1e-6)
        assert plan.loss <= brute + 1e-12


@pytest.mark.parametrize("budget", ["tokens", "flops"])
def test_size_and_fraction_equal_brute_force(budget: str) -> None:
    """Both free: a grid of sizes and fractions, refined once around its best point, a million evaluations in all."""
    rng = np.random.default_rng(11)
    for _ in range(6):
        law, bits = random_law(rng), float(rng.choice([2, 3, 4, 8]))
        amount = 10 ** rng.uniform(9, 12) if budget == "tokens" else 10 ** rng.uniform(18, 23)
        asked = problem(bits=(bits,), memory=10 ** rng.uniform(8, 10.5), **{budget: amount})
        plan = solve(Objective(law=law), asked, bits)
        low, high = (math.log(v) for v in asked.params_range(bits))
        logit_low, logit_high, best = -12.0, 12.0, (math.inf, 0.0, 0.0)
        for _ in range(3):
            for log_n in np.linspace(low, high, 300):
                layout = asked.layout_of(math.exp(log_n))
                tokens = amount if budget == "tokens" else amount / asked.training.flops_per_token(layout)
                logit = np.linspace(logit_low, logit_high, 1000)
                at = formula(law, layout.parameters, tokens, bits, -np.logaddexp(0, -logit), -np.logaddexp(0, logit))
                i = int(np.argmin(at))
                best = min(best, (float(at[i]), float(log_n), float(logit[i])))
            step, logit_step = (high - low) / 299, (logit_high - logit_low) / 999
            low, high = max(best[1] - 2 * step, low), min(best[1] + 2 * step, high)
            logit_low, logit_high = best[2] - 3 * logit_step, best[2] + 3 * logit_step
        assert plan.loss == pytest.approx(best[0], abs=1e-6)
        assert plan.loss <= best[0] + 1e-9
        assert plan.memory_bytes <= asked.budgets.memory


def test_slower_qat_tokens_are_traded_against_the_split(law: QatLoss) -> None:
    """With device hours as the budget the number of tokens depends on the split; against a million fractions."""
    asked = problem(bits=(3.0,), params=1e9, gpu_hours=200.0, qat_slowdown=1.8)
    plan = solve(Objective(law=law), asked, 3.0)
    per_token = asked.training.flops_per_token(asked.layout_of(1e9))
    tokens = 200 * asked.training.flops_per_hour / (per_token * (1 + 0.8 * np.exp(LOG_F)))
    s = tokens / (1e9 * 3 / 8)
    at = (
        law.C / tokens**law.beta
        + law.phi * 2 ** (-law.chi * 3) / 1e9**law.psi * (s * np.exp(LOG_F)) ** -law.omega
        + law.lam * 2 ** (-law.mu * 3) / 1e9**law.nu * (s * np.exp(LOG_G)) ** -law.xi * (s * np.exp(LOG_F)) ** -law.rho
    )
    brute = float(at.min()) + law.E + law.A / 1e9**law.alpha + law.theta * 2 ** (-law.kappa * 3)
    assert plan.loss == pytest.approx(brute, abs=1e-9)
    assert plan.binding == ("gpu_hours",)
    unhurried = solve(Objective(law=law), problem(bits=(3.0,), params=1e9, gpu_hours=200.0), 3.0)
    assert plan.fraction < unhurried.fraction
    assert plan.loss > unhurried.loss


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000), memory=st.floats(1e8, 1e11), tokens=st.floats(1e9, 1e13), more=st.floats(1.0, 10.0),
    bits=st.sampled_from([1.0, 2.0, 4.0, 8.0]),
)  # fmt: skip
def test_more_memory_or_tokens_never_hurt(seed: int, memory: float, tokens: float, more: float, bits: float) -> None:
    objective = Objective(law=random_law(np.random.default_rng(seed)))

    def best(memory: float, tokens: float) -> float:
        return solve(objective, problem(bits=(bits,), memory=memory, tokens=tokens), bits).loss

    here = best(memory, tokens)
    assert best(memory * more, tokens) <= here + 1e-9
    assert best(memory, tokens * more) <= here + 1e-9


def test_target_loss_is_reached_with_the_fewest_flops(law: QatLoss) -> None:
    objective, target = Objective(law=law), 2.3
    asked = problem(bits=(3.0,), target_loss=target)
    plan = solve(objective, asked, 3.0)
    assert plan.loss == pytest.approx(target, abs=1e-9)
    # The same FLOPs cannot do better at any size, and any other size needs more of them.
    dual = solve(objective, problem(bits=(3.0,), flops=plan.flops), 3.0)
    assert dual.loss == pytest.approx(target, abs=1e-7)
    for factor in (0.5, 0.8, 1.25, 2.0):
        other = solve(objective, problem(bits=(3.0,), target_loss=target, params=plan.layout.parameters * factor), 3.0)
        assert other.flops > plan.flops


def test_given_model_with_budget_and_without(law: QatLoss) -> None:
    objective = Objective(law=law)
    spent = solve(objective, problem(bits=(2.0,), params=1e9, fp_tokens=1e12, tokens=1e11), 2.0)
    assert (spent.d_fp, spent.d_qat) == (1e12, 1e11)
    assert spent.binding == ("tokens",)
    free = solve(objective, problem(bits=(4.0,), params=1e9, fp_tokens=1e12), 4.0)
    twice = float(objective.loss_of_phases(1e9, 1e12, 2 * free.d_qat, 4.0)[0])
    assert (free.loss - twice) / free.loss == pytest.approx(WORTHWHILE, rel=1e-6)
    assert worthwhile_qat_tokens(objective, 1e9, 1e12, 1.0) > worthwhile_qat_tokens(objective, 1e9, 1e12, 4.0)
    reached = solve(objective, problem(bits=(4.0,), params=1e9, fp_tokens=1e12, target_loss=free.loss), 4.0)
    assert reached.d_qat == pytest.approx(free.d_qat, rel=1e-6)
    # Where every doubling pays, the balance of both phases is the end.
    hungry = solve(objective, problem(bits=(1.0,), params=1e9, fp_tokens=1e10), 1.0)
    assert hungry.d_qat == balanced_qat_tokens(objective, 1e9, 1e10, 1.0)
    assert hungry.fraction == pytest.approx(float(objective.best(1e9, hungry.tokens, 1.0)[0][0]), abs=1e-8)


def test_every_budget_that_is_used_up_is_named(law: QatLoss) -> None:
    objective = Objective(law=law)
    both = solve(objective, problem(bits=(4.0,), memory=2**30, tokens=1e12), 4.0)
    assert both.binding == ("memory", "tokens")
    contradictory = problem(bits=(4.0,), params=1.5e9, tokens=3e11, flops=1e20)
    plan = solve(objective, contradictory, 4.0)
    assert plan.binding == ("flops",)
    assert plan.tokens < 3e11
    assert plan.flops == pytest.approx(1e20)


def test_a_model_fits_exactly_or_not_at_all(law: QatLoss) -> None:
    layout = of_architecture(preset("smollm2-135m"))
    needed = estimate(layout, form="int4").total_bytes
    fits = solve(Objective(law=law), problem(bits=(4.0,), layout=layout, memory=needed, tokens=1e10), 4.0)
    assert fits.layout.parameters == 134_515_008
    with pytest.raises(UsageError, match="memory binds at 4 bits"):
        solve(Objective(law=law), problem(bits=(4.0,), layout=layout, memory=needed - 1, tokens=1e10), 4.0)


@pytest.mark.parametrize(
    ("budgets", "words"),
    [
        ({"memory": 1000, "tokens": 1e9}, "memory 1000 bytes is too small for any model"),
        ({"params": 1e9, "target_loss": 1.6}, "target loss 1.6 is out of reach at 4 bits"),
        ({"memory": 1e9, "target_loss": 1.75}, "no size that the memory allows"),
        ({"params": 1e9, "target_loss": 2.3, "tokens": 1e9}, "tokens binds at 4 bits"),
        ({"params": 1e9, "target_loss": 2.3, "flops": 1e17}, "flops binds at 4 bits"),
        ({"params": 1e9, "target_loss": 2.2, "fp_tokens": 1e11, "tokens": 1e6}, "tokens binds at 4 bits"),
        ({"params": 1e9, "target_loss": 1.9, "fp_tokens": 1e11}, "no number of QAT tokens gets there"),
    ],
)
def test_impossible_budgets_name_what_binds(law: QatLoss, budgets: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        solve(Objective(law=law), problem(bits=(4.0,), **budgets), 4.0)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tokens": 1e9}, "nothing bounds the model's size"),
        ({"params": 1e9}, "nothing bounds the tokens"),
        ({"params": 0.0, "tokens": 1e9}, "params is 0"),
        ({"params": 1e9, "tokens": math.nan}, "tokens is nan"),
        ({"params": 1e9, "tokens": -1.0}, "tokens is -1"),
        ({"params": 1e9, "tokens": 1e9, "fraction": 1.5}, "fraction is 1.5"),
        ({"params": 1e9, "tokens": 1e9, "bits": ()}, "bits is empty"),
        ({"params": 1e9, "tokens": 1e9, "bits": (0.5,)}, "bits is 0.5"),
        ({"params": 1e9, "tokens": 1e9, "level": 1.0}, "level is 1"),
        ({"params": 1e9, "tokens": 1e9, "context": 0}, "context is 0"),
        ({"params": 1e9, "tokens": 1e9, "group_size": 0}, "group size is 0"),
        ({"params": 1e9, "tokens": 1e9, "kv_format": "q9"}, "kv format"),
        ({"params": 1e9, "tokens": 1e9, "extrapolation_limit": 0.5}, "extrapolation limit"),
        ({"memory": 1e9, "fp_tokens": 1e9}, "fp tokens describe a given model"),
        ({"params": 1e9, "fp_tokens": 1e9, "fraction": 0.5}, "fp tokens or fraction"),
    ],
)
def test_bad_problems_are_refused_in_one_sentence(fields: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        problem(**{"bits": (4.0,), **fields})
    assert "\n" not in str(caught.value)


def test_target_loss_with_a_given_split_or_a_tight_token_budget(law: QatLoss) -> None:
    objective = Objective(law=law)
    fixed = solve(objective, problem(bits=(3.0,), target_loss=2.3, fraction=0.2), 3.0)
    free = solve(objective, problem(bits=(3.0,), target_loss=2.3), 3.0)
    assert fixed.loss == pytest.approx(2.3, abs=1e-9)
    assert fixed.fraction == pytest.approx(0.2)
    assert fixed.flops > free.flops
    split = solve(objective, problem(bits=(3.0,), target_loss=2.3, fraction=0.2, params=free.layout.parameters), 3.0)
    assert float(objective.loss(split.n, split.tokens, 3.0, 0.2)[0]) == pytest.approx(2.3, abs=1e-9)
    # Slower QAT tokens are traded against the split while the size is searched for, too.
    hours = problem(bits=(3.0,), memory=2e9, gpu_hours=200.0, qat_slowdown=1.5)
    best = solve(objective, hours, 3.0)
    for factor in (0.8, 0.95):
        other = solve(objective, problem(hours, memory=None, params=best.layout.parameters * factor), 3.0)
        assert other.loss >= best.loss - 1e-12


def test_a_target_that_the_smallest_model_reaches_takes_the_smallest(law: QatLoss) -> None:
    objective = Objective(law=law)
    asked = problem(bits=(3.0,), target_loss=1e9)
    assert solve(objective, asked, 3.0).layout.parameters == pytest.approx(asked.params_range(3.0)[0])


def test_sizes_begin_where_a_vocabulary_leaves_room_and_end_at_any_memory() -> None:
    asked = problem(bits=(4.0,), memory=1e9, tokens=1e10, vocabulary=128_256)
    low, high = asked.params_range(4.0)
    assert low > 5e3
    assert asked.layout_of(low).layers >= 0.5
    with pytest.raises(UsageError, match="no room for layers"):
        asked.layout_of(low * 0.99)
    assert asked.memory_of(asked.layout_of(high), 4.0) <= 1e9
    assert problem(bits=(4.0,), memory=1e18, tokens=1e10).largest_params(4.0) == 1e15


def test_a_continuation_needs_a_split_and_a_bound(law: QatLoss) -> None:
    from qatplan.laws import Inputs, get

    scratch = get("precision").for_inputs(Inputs.of(n=1e8, d_total=1e10, fraction=1.0, bits=4.0))
    given = problem(bits=(4.0,), params=1e9, fp_tokens=1e11)
    with pytest.raises(UsageError, match="knows no full-precision phase"):
        solve(Objective(law=scratch), problem(given, tokens=1e10), 4.0)
    with pytest.raises(UsageError, match="out of reach at 4 bits: no number of QAT tokens"):
        solve(Objective(law=law), problem(given, target_loss=1.0), 4.0)
