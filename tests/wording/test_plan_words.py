"""What plans, predictions, designs and memory say: one screen by default, everything with details, no long lines."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.problems import details, problem, words

from qatplan.laws import FittedLaw, QatFraction, Status
from qatplan.models.lookup import architecture
from qatplan.models.memory import estimate
from qatplan.planning.caveats import Concern
from qatplan.planning.fraction_only import advise
from qatplan.planning.next_runs.design import design
from qatplan.planning.prediction import predict
from qatplan.planning.recommend import recommend
from qatplan.wording import plan as wording
from qatplan.wording.design import design_sections
from qatplan.wording.fraction_advice import fraction_sections
from qatplan.wording.memory import memory_sections
from qatplan.wording.plan import LINES, plan_sections
from qatplan.wording.prediction import prediction_sections
from qatplan.wording.sections import sentence
from qatplan.wording.text import to_text

ROOT = Path(__file__).parents[2]
ASKED: dict[str, dict[str, Any]] = {
    "a size": {"params": 3e5, "tokens": 2e7},
    "a memory": {"memory": 100 * 1024, "context": 64, "tokens": 1e8},
    "FLOPs": {"flops": 1e14, "memory": 1e5, "context": 64, "price_per_hour": 2.0},
    "hours": {"gpu_hours": 1e-3, "qat_slowdown": 1.4, "memory": 2e5, "context": 64},
    "a target": {"target_loss": 1.7, "memory": 4e5, "context": 64},
    "a given model": {"params": 3e5, "fp_tokens": 1e7, "tokens": 3e6, "bits": (2.0, 3.0, 4.0)},
    "a given model, no budget": {"params": 3e5, "fp_tokens": 1e7, "bits": (4.0,)},
    "a given split": {"params": 3e5, "tokens": 2e7, "fraction": 0.1},
    "far away": {"params": 3e9, "tokens": 2e12},
    "a known model": {"layout_of": "llama-3.2-1b", "tokens": 1e10},
    "one width": {"params": 3e5, "tokens": 2e7, "bits": (4.0,)},
    "many widths": {"params": 3e5, "tokens": 2e7, "bits": tuple(float(b) for b in range(1, 17))},
    "widths that do not fit": {"params": 3e5, "tokens": 2e7, "memory": 3.63e6, "bits": (2.0, 4.0, 8.0)},
}


@pytest.fixture(scope="module")
def shipped() -> FittedLaw:
    fit = FittedLaw.read(ROOT / "fits/qat-loss.json")
    assert fit.draws is not None
    return dataclasses.replace(fit, draws=fit.draws[:40])


def asked_of(name: str) -> Any:
    from qatplan.models.layout import of_architecture

    fields = dict(ASKED[name])
    if "layout_of" in fields:
        fields["layout"] = of_architecture(architecture(fields.pop("layout_of")))
    return problem(**fields)


@pytest.mark.parametrize("name", ASKED)
def test_a_plan_is_one_screen(shipped: FittedLaw, name: str) -> None:
    advice = recommend(shipped, asked_of(name))
    short, long = to_text(plan_sections(advice)), to_text(plan_sections(advice, details=True))
    assert short.count("\n") + 1 <= LINES
    for text in (short, long):
        assert max(map(len, text.splitlines())) <= 80
        assert "None" not in text
        assert "nan" not in text
    assert "--details" in short
    assert "--details" not in long
    assert long.count("\n") > short.count("\n")


def test_the_plan_comes_first_and_its_doubts_before_it(shipped: FittedLaw) -> None:
    good = plan_sections(recommend(shipped, asked_of("a size")))[0]
    assert str(good.blocks[0]).startswith("Train 300K parameters at ")
    assert not good.warning
    far = recommend(shipped, asked_of("far away"))
    first = plan_sections(far)[0]
    assert str(first.blocks[0]) == f"Not to be relied upon: {far.status.message}."
    assert first.warning
    assert "times the largest measured" in words(plan_sections(far)[:1])


def test_too_far_away_the_published_fraction_stands_in_place_of_the_law(shipped: FittedLaw) -> None:
    far = recommend(shipped, problem(params=1.5e9, tokens=300e9, bits=(2.0, 4.0)))
    assert far.extrapolation.withheld
    text = words(plan_sections(far))
    assert "nats per token" not in text
    assert "best in" not in text
    assert "published fraction law" in text
    for bits in (2.0, 4.0):
        s = 300e9 / (1.5e9 * bits / 8)
        (found,) = (split for split in far.published if split.bits == bits)
        assert found.fraction == pytest.approx(np.exp(-6.7297 / np.log(s)))
        assert f"{found.fraction:.3f}" in text
    assert "Predicted loss" in details(far)
    given = recommend(shipped, problem(params=8e9, fp_tokens=15e12, bits=(4.0,)))
    (split,) = given.published
    # The given tokens are the share that the law leaves to full precision.
    assert split.tokens - split.qat_tokens == pytest.approx(15e12, rel=1e-9)
    assert split.fraction == pytest.approx(np.exp(-6.7297 / np.log(split.tokens / 4e9)), rel=1e-9)


def test_the_weightiest_caveats_are_shown_and_the_rest_counted(shipped: FittedLaw) -> None:
    advice = recommend(shipped, asked_of("many widths"))
    shown = plan_sections(advice)[-1]
    listed = [line for line in words([shown]).splitlines() if line.startswith("  - ")]
    assert 1 <= len(listed) <= 3
    distances = sum(flag.concern is Concern.EXTRAPOLATION for flag in advice.flags)
    left = len(advice.flags) - max(distances - 1, 0) - len(listed)
    assert f"{left} more caveat" in words([shown])
    assert f"{len(advice.options) - 5} more widths" in words([shown])
    undrawn = recommend(dataclasses.replace(shipped, draws=None), asked_of("a size"))
    assert undrawn.flags[0].concern is Concern.NO_INTERVALS
    assert "no draws" in words(plan_sections(undrawn)[-1:]).splitlines()[1]
    excluded = recommend(shipped, asked_of("widths that do not fit"))
    assert f"why {', '.join(excluded.excluded)} bits have no plan" in words(plan_sections(excluded))


def test_details_have_all_sections_by_name(shipped: FittedLaw) -> None:
    advice = recommend(shipped, asked_of("a size"))
    titles = [part.title for part in plan_sections(advice, details=True) if part.blocks]
    assert titles == ["Recommendation", "Why", "What it beat", "Against the usual rules", "Full precision", "Schedule",
                      "What it rests on", "What would change it"]  # fmt: skip
    text = details(advice)
    for unit in ("nats per token", "bits", "tokens", "parameters", "FLOPs", "h100 hours", "kWh", "MiB"):
        assert unit in text
    given = details(recommend(shipped, asked_of("a given model")))
    assert "QAT tokens pay until" in given or "Every doubling of the QAT tokens still gains" in given
    assert "Loss by QAT tokens" in given


def test_pieces_for_the_report(shipped: FittedLaw) -> None:
    advice = recommend(shipped, asked_of("a size"))
    assert any(flag.concern is Concern.FIT for flag in advice.flags)
    assert "The fit: " in words([wording.changes(advice)])
    table = wording.alternatives_table(advice)
    assert table is not None
    assert table.strong == 0
    assert len(table.rows) == len(advice.options)
    assert wording.alternatives_table(recommend(shipped, asked_of("one width"))) is None


def test_rules_without_a_value_say_why(shipped: FittedLaw) -> None:
    bare = dataclasses.replace(shipped, ranges={k: v for k, v in shipped.ranges.items() if k != "fraction"})
    text = details(recommend(bare, asked_of("a size")))
    assert "runs at this end measure it (--runs)." in text


def test_never_and_saved_tokens(shipped: FittedLaw) -> None:
    advice = recommend(shipped, asked_of("a size"))
    full = dataclasses.replace(advice.full_precision, tokens_interval=None, never_share=1.0, tokens=None)
    fusion = dataclasses.replace(advice.fusion, saved_tokens=2e6, saved_tokens_range=None)
    text = details(dataclasses.replace(advice, full_precision=full, fusion=fusion))
    assert "By the draws: never in 100 % of the draws." in text
    assert "worth 2M tokens here" in text
    open_end = dataclasses.replace(advice.fusion, saved_tokens_range=(1e6, None))
    assert "1M to more than any budget" in details(dataclasses.replace(advice, fusion=open_end))
    whole = dataclasses.replace(advice.full_precision, tokens_interval=(1e7, 2e7), never_share=0.0)
    assert "10M to 20M." in details(dataclasses.replace(advice, full_precision=whole))


def test_the_fraction_law_says_the_split_alone() -> None:
    advice = advise(problem(bits=(2.0, 4.0, 16.0), params=1e9, tokens=2.5e9))
    short, long = fraction_sections(advice), fraction_sections(advice, details=True)
    assert short == plan_sections(advice)
    for sections in (short, long):
        lines = to_text(sections).splitlines()
        assert max(map(len, lines)) <= 80
        assert len(lines) <= LINES
    assert "16 bits: bits is 16, which is full precision without a QAT phase" in words(short)
    assert "classic schedule" in words(long)
    assert "classic schedule" not in words(short)
    one = advise(problem(bits=(4.0,), params=1e9, tokens=5e10))
    assert "tokens/byte" not in words(fraction_sections(one))


def test_the_fraction_law_names_the_width_asked_for_all_that_fit_and_the_cost() -> None:
    asked = problem(bits=(8.0, 2.0, 3.0), params=1.5e9, tokens=3e11, memory=1.2 * 2**30, price_per_hour=2.0)
    advice = advise(asked)
    said = words(fraction_sections(advice))
    assert "with 2-bit weights" in said
    assert "Widths that fit 1.2 GiB: 2, 3 bits." in said
    assert set(advice.excluded) == {"8"}
    cost = advice.choice.cost
    assert cost.money == pytest.approx(2.0 * cost.gpu_hours)
    assert f"training {cost.flops:.3g} FLOPs" in said
    assert f"{cost.money:,.2f} in money." in said
    free = advise(problem(params=1.5e9, tokens=3e11))
    assert free.choice.bits == 4
    assert "in money" not in words(fraction_sections(free))


@pytest.mark.parametrize("bits", [None, 16.0])
def test_sixteen_bits_are_predicted_as_full_precision(shipped: FittedLaw, bits: float | None) -> None:
    said = predict(shipped, params=3e5, tokens=2e7, bits=bits)
    assert said.loss == predict(shipped, params=3e5, tokens=2e7).loss
    assert (said.bits, said.fraction) == (None, None)


@pytest.mark.parametrize("bits", [None, 4.0])
def test_a_prediction_fits_the_terminal(shipped: FittedLaw, bits: float | None) -> None:
    predicted = predict(shipped, params=3e5, tokens=2e7, bits=bits, fraction=None if bits is None else 0.2)
    text = to_text(prediction_sections(predicted))
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith("Prediction\n  300K parameters on 20M tokens ")
    assert ("at the best fraction" in text) == (bits is not None)
    doubtful = dataclasses.replace(shipped, status=Status.UNDETERMINED, noise=float("nan"), n_convention="nonembedding")
    text = words(prediction_sections(predict(doubtful, params=3e5, tokens=2e7, bits=bits)))
    assert "Not to be relied upon: made from a fit that did not pass its own checks." in text
    assert "one new run" not in text
    assert "Parameters without embeddings" in text


def test_a_prediction_by_the_fraction_law() -> None:
    predicted = predict(FittedLaw(law=QatFraction()), params=1e9, tokens=5e10, bits=4.0)
    text = words(prediction_sections(predicted))
    assert text.count("gives no loss") == 1
    assert "The fit records no ranges" in text


def test_a_design_is_one_screen(shipped: FittedLaw) -> None:
    made = design(shipped, budget=1e14, runs=3, bits=(4.0,))
    short, long = design_sections(made), design_sections(made, details=True)
    for sections in (short, long):
        assert max(map(len, to_text(sections).splitlines())) <= 80
    assert to_text(short).count("\n") + 1 <= LINES
    assert "nearly linear over its draws" in words(long)
    assert "nearly linear" not in words(short)


def test_memory_adds_up() -> None:
    memory = estimate(architecture("llama-3.1-8b"), form="Q4_K_M")
    lines = to_text(memory_sections(memory)).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "llama-3.1-8b in Q4_K_M"
    assert any(line.split()[:2] == ["total", f"{memory.total_bytes:,}"] for line in lines)


def test_sentences_begin_with_capitals_but_for_symbols() -> None:
    assert sentence("the law") == "The law."
    assert sentence("a = 7.5") == "a = 7.5."
    assert sentence("Done.") == "Done."
