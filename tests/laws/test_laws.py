"""Every law: values, names, domain."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
from support.law_examples import QAT, example

from qatplan.errors import UsageError
from qatplan.laws import NAMES, Chinchilla, Inputs, QatFraction, get


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_taken_by_name_in_any_order(name: str) -> None:
    law = example(name)
    items = list(law.params().items())
    random.Random(0).shuffle(items)
    assert type(law).from_params(dict(items)) == law
    assert [p.name for p in law.parameters()] == list(law.params())
    with pytest.raises(UsageError, match="has no parameter zeta"):
        type(law).from_params({**law.params(), "zeta": 1.0})


@pytest.mark.parametrize("name", NAMES)
def test_coordinates_round_trip(name: str) -> None:
    law = example(name)
    back = law.from_coordinates(law.coordinates())
    for key, value in law.params().items():
        assert back.params()[key] == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_every_law_says_what_it_is(name: str) -> None:
    law = get(name)
    assert all([law.title, law.formula, law.source, law.domain])
    assert law.evidence in ("paper", "code", "derived", "open")
    assert all(p.meaning and p.symbol and p.lower < p.upper for p in example(name).parameters())


def test_chinchilla_is_its_formula() -> None:
    law = Chinchilla.published()
    expected = 1.8172 + 482.01 / 1e9**0.3478 + 2085.43 / 2e10**0.3658
    assert law.predict(Inputs.of(n=1e9, d_total=2e10))[0] == pytest.approx(expected, rel=1e-14)


def test_qat_loss_is_its_formula() -> None:
    n, d, b, f = 1e8, 1e10, 4.0, 0.3
    s = d / (n * b / 8)
    base = 1.8 + 480 / n**0.35 + 2000 / d**0.37
    rest = (
        0.1 * 2**-b
        + 3 * 2 ** (-0.5 * b) / (n**0.1 * (f * s) ** 0.5)
        + 2 * 2 ** (-0.5 * b) / (n**0.1 * ((1 - f) * s) ** 0.6 * (f * s) ** 0.2)
    )
    x = Inputs.of(n=n, d_total=d, bits=[b, np.nan], fraction=[f, 0.0])
    np.testing.assert_allclose(QAT.predict(x), [base + rest, base], rtol=1e-14)
    parts = QAT.components(x)
    np.testing.assert_allclose(sum(parts.values()), QAT.predict(x), rtol=1e-14)
    assert parts["interaction"][1] == 0


def test_qat_loss_is_infinite_and_outside_at_both_ends() -> None:
    ends = Inputs.of(n=1e8, d_total=1e10, bits=4, fraction=[0.0, 1.0, 0.5])
    assert np.isinf(QAT.predict(ends)).tolist() == [True, True, False]
    reasons = QAT.outside(ends)
    assert "D_qat = 0" in str(reasons[0])
    assert "D_fp = 0" in str(reasons[1])
    assert reasons[2] is None


def test_qat_loss_without_interaction_holds_for_qat_from_scratch() -> None:
    law = dataclasses.replace(QAT, lam=0.0)
    x = Inputs.of(n=1e8, d_total=1e10, bits=4, fraction=1.0)
    assert law.outside(x) == [None]
    assert np.isfinite(law.predict(x)).all()


def test_published_fraction_law_values() -> None:
    """Check values of arXiv 2509.22935's law, worked out from its formula."""
    s = [10, 20, 50, 100, 1e3, 1e4, 1e5]
    np.testing.assert_allclose(QatFraction().fraction(s), [0.054, 0.106, 0.179, 0.232, 0.378, 0.482, 0.557], atol=6e-4)
    direct = np.exp(np.log(s) - 6.7297 / np.log(s)) / np.asarray(s)
    np.testing.assert_allclose(QatFraction().fraction(s), direct, rtol=1e-13)


@pytest.mark.parametrize("s", [1.0, 0.5, 1e-9, float("nan")])
def test_fraction_law_refuses_s_total_of_one_and_below(s: float) -> None:
    with pytest.raises(UsageError, match="S_total > 1"):
        QatFraction().fraction(s)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n": -1.0, "d_total": 1.0}, "n is -1"),
        ({"n": 1.0, "d_total": 1.0, "bits": 4.0}, "needs fraction"),
        ({"n": 1.0, "d_total": 1.0, "bits": 4.0, "fraction": 1.5}, "fraction is 1.5"),
        ({"n": 1.0, "d_fp": 1.0, "d_qat": 1.0}, "d_qat is 1"),
        ({"n": 1.0}, "tokens are missing"),
        ({"n": 1.0, "d_total": 1.0, "d_fp": 1.0}, "not both"),
        ({"n": 1.0, "d_total": 1.0, "bits": 0.0, "fraction": 0.1}, "bits is 0"),
    ],
)
def test_impossible_points_are_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Inputs.of(**fields)


def test_tokens_per_parameter_byte() -> None:
    x = Inputs.of(n=1e9, d_total=5e10, bits=4, fraction=0.2)
    assert (x.s_total[0], x.s_fp[0], x.s_qat[0]) == pytest.approx((100.0, 80.0, 20.0))


def test_unknown_law_is_refused_with_the_names() -> None:
    with pytest.raises(UsageError, match="chinchilla, qat-loss"):
        get("nonsense")
