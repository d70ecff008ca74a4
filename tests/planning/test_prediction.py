"""Predictions and the fraction law's advice, against the laws themselves and the paper's check values."""

from collections.abc import Callable

import numpy as np
import pytest
from support.problems import details, problem, words

from qatplan.errors import UsageError
from qatplan.laws import FittedLaw, Inputs, QatFraction, QatLoss, get
from qatplan.planning.fraction_only import advise
from qatplan.planning.prediction import predict
from qatplan.planning.recommend import recommend
from qatplan.planning.trust import PlanStatus
from qatplan.wording.prediction import prediction_sections

Build = Callable[..., FittedLaw]

# arXiv 2509.22935 with a = 6.7297: tokens per parameter byte and the fraction they give.
CHECK = {10: 0.054, 20: 0.106, 50: 0.179, 100: 0.232, 1e3: 0.378, 1e4: 0.482, 1e5: 0.557}


@pytest.mark.parametrize(("s_total", "fraction"), CHECK.items())
def test_published_fraction_law(s_total: float, fraction: float) -> None:
    advice = advise(problem(bits=(4.0,), params=1e9, tokens=s_total * 1e9 / 2))
    # The list gives three decimals; at S = 1000 the law is .37749, which the list rounds up.
    assert advice.choice.fraction == pytest.approx(fraction, abs=6e-4)
    assert advice.choice.tokens_per_parameter_byte == pytest.approx(s_total)
    assert advice.as_dict()["choice"]["loss"] is None
    assert advice.status is PlanStatus.FRACTION_ONLY
    assert any(flag.concern == "losses-need-a-sweep" for flag in advice.flags)
    assert "need a sweep" in details(advice)


def test_too_few_tokens_per_byte_are_refused() -> None:
    with pytest.raises(UsageError, match="S_total > 1"):
        advise(problem(bits=(8.0,), params=1e9, tokens=1e9))
    some = advise(problem(bits=(4.0, 8.0), params=1e9, tokens=0.9e9))
    assert list(some.excluded) == ["8"]


def test_the_fraction_law_takes_size_from_memory_and_tokens_from_flops() -> None:
    asked = problem(bits=(2.0, 4.0), memory=2 * 2**30, flops=1e22)
    advice = advise(asked)
    assert [split.bits for split in advice.options] == [2, 4]
    for split in advice.options:
        assert split.binding == ("memory", "flops")
        assert asked.memory_of(asked.layout_of(split.params), split.bits) <= 2 * 2**30
    assert any(flag.concern == "bits-not-chosen" for flag in advice.flags)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"params": 1e9, "target_loss": 2.0}, "needs a law of the loss"),
        ({"flops": 1e20}, "cannot choose a size"),
        ({"params": 1e9, "tokens": 1e10, "fraction": 0.1}, "leave out fraction"),
        ({"params": 1e10, "tokens": 1e12, "memory": 1e9}, "memory binds at 4 bits"),
    ],
)
def test_what_the_fraction_law_cannot_answer(fields: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        advise(problem(bits=(4.0,), **fields))


def test_a_fitted_fraction_law_brings_its_interval(fitted: Build) -> None:
    fit = fitted(law=QatFraction(a=5.0), draws=np.linspace(4.5, 5.5, 101)[:, None])
    advice = advise(problem(bits=(4.0,), params=1e9, tokens=5e10), fit)
    low, high = advice.choice.fraction_interval or (0, 0)
    assert advice.choice.fraction == pytest.approx(np.exp(-5 / np.log(100)))
    assert low == pytest.approx(np.exp(-5.4845 / np.log(100)))
    assert high == pytest.approx(np.exp(-4.5155 / np.log(100)))
    assert (
        advise(problem(bits=(4.0,), params=1e9, tokens=5e10), fitted(law=QatFraction())).flags[-1].concern
        == "no-intervals"
    )


def test_prediction_is_the_law_s(fitted: Build, law: QatLoss) -> None:
    said = predict(fitted(scatter=0.01), params=1.5e9, tokens=3e11, bits=4.0, fraction=0.2)
    x = Inputs.of(n=1.5e9, d_total=3e11, bits=4.0, fraction=0.2)
    assert said.loss == float(law.predict(x)[0])
    assert said.loss_interval is not None
    assert said.new_run_interval is not None
    ends = (said.new_run_interval[0], said.loss_interval[0], said.loss_interval[1], said.new_run_interval[1])
    assert ends[0] <= ends[1] < said.loss < ends[2] <= ends[3]
    assert said.optimal_loss is not None
    assert said.optimal_loss < said.loss
    assert said.tokens_per_parameter_byte == pytest.approx(3e11 / (1.5e9 / 2))
    assert said.status is PlanStatus.GOOD
    text = words(prediction_sections(said))
    assert "at the best fraction" in text
    assert "nats per token" in text


def test_prediction_chooses_the_best_fraction(fitted: Build) -> None:
    said = predict(fitted(), params=1.5e9, tokens=3e11, bits=4.0)
    assert said.fraction_chosen
    assert said.fraction == said.optimal_fraction
    assert said.loss == pytest.approx(said.optimal_loss, abs=1e-12)
    assert said.loss_interval is None
    assert any(flag.concern == "no-intervals" for flag in said.flags)


def test_full_precision_prediction(fitted: Build, law: QatLoss) -> None:
    said = predict(fitted(), params=1.5e9, tokens=3e11)
    assert said.loss == said.full_precision_loss == float(law.predict(Inputs.of(n=1.5e9, d_total=3e11))[0])
    assert said.fraction is said.optimal_fraction is said.tokens_per_parameter_byte is None


def test_prediction_far_outside_is_not_trusted(fitted: Build) -> None:
    said = predict(fitted(), params=1.5e12, tokens=3e11, bits=4.0)
    assert said.status is PlanStatus.EXTRAPOLATES
    assert said.extrapolation.factors["n"] == pytest.approx(750)
    assert predict(fitted(), params=1.5e12, tokens=3e11, bits=4.0, limit=1e4).status is PlanStatus.GOOD


def test_prediction_by_the_fraction_law_and_by_nonembedding_fits(fitted: Build) -> None:
    said = predict(fitted(law=QatFraction()), params=1e9, tokens=5e10, bits=4.0)
    assert said.loss is None
    assert said.fraction == pytest.approx(0.232, abs=5e-4)
    assert "gives no loss" in words(prediction_sections(said))
    other = predict(fitted(n_convention="nonembedding"), params=1e9, tokens=5e10, bits=4.0)
    assert other.params_in_law < 1e9
    assert "inferred from the number of parameters" in other.assumptions[0]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"params": 0.0}, "params is 0"),
        ({"tokens": float("nan")}, "tokens is nan"),
        ({"bits": 0.0}, "bits is 0"),
        ({"bits": 4.0, "fraction": -0.1}, "fraction is -0.1"),
        ({"fraction": 0.1}, "needs bits"),
        ({"bits": 4.0, "fraction": 0.0}, "no value there: D_qat = 0"),
        ({"bits": 4.0, "fraction": 1.0}, "no value there: D_fp = 0"),
        ({"level": 0.0}, "level is 0"),
    ],
)
def test_bad_predictions_are_refused(fitted: Build, fields: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        predict(fitted(), **{"params": 1e9, "tokens": 1e10, **fields})
    assert "\n" not in str(caught.value)


def test_the_fraction_law_predicts_at_a_bit_width_alone(fitted: Build) -> None:
    with pytest.raises(UsageError, match="the fraction law needs bits"):
        predict(fitted(law=QatFraction()), params=1e9, tokens=5e10)


def test_a_law_without_a_split_is_one_of_qat_from_scratch(fitted: Build) -> None:
    law = get("precision").for_inputs(Inputs.of(n=1e8, d_total=1e10, fraction=1.0, bits=4.0))
    draws = np.repeat([list(law.params().values())], 20, axis=0)
    fit = fitted(law=law, draws=draws)
    predicted = predict(fit, params=1e9, tokens=5e10, bits=4.0)
    assert (predicted.fraction, predicted.fraction_chosen, predicted.optimal_fraction) == (1.0, False, None)
    assert "knows no split" in predicted.assumptions[0]
    # All draws are the law itself, so nothing is open about the tokens that match full precision.
    full = recommend(fit, problem(params=1e9, tokens=5e10, bits=(4.0, 8.0))).full_precision
    assert full.never_share == (1.0 if full.tokens is None else 0.0)
