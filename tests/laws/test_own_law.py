"""A law of one's own: what a formula means, its derivatives, and what is refused."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.law_examples import QAT

import qatplan as qp
from qatplan.errors import DataError, UsageError
from qatplan.laws import FittedLaw, Inputs
from qatplan.laws.law import Law
from qatplan.laws.own import jets
from qatplan.laws.own.file import made
from qatplan.laws.own.jets import Jet
from qatplan.reporting.formula import mathml

INF = math.inf
POINTS = Inputs.of(n=[1e8, 1e9, 3e8], d_total=[1e10, 3e10, 2e10], bits=[4, np.nan, 1], fraction=[0.3, 0, 0.9])
FILE = """
formula = "E + A/N^alpha + C/(D_fp + eta*D_qat)^beta"
[parameters]
E = {domain = [0, inf], unit = "nats/token", meaning = "a"}
A = {domain = [0, inf], unit = "nats/token", meaning = "b"}
alpha = {domain = [0, 3], start = [0.1, 1], unit = "1", meaning = "c"}
C = {domain = [0, inf], unit = "nats/token", meaning = "d"}
beta = {domain = [0, 3], start = [0.1, 1], unit = "1", meaning = "e"}
eta = {domain = [0.01, 10], scale = "log", unit = "1", meaning = "f"}
"""


def own(formula: str, **domains: Any) -> type[Law]:
    parameters = {
        name: {"domain": domain[:2], "start": domain[2:] or None, "unit": "1", "meaning": name}
        for name, domain in domains.items()
    }
    for values in parameters.values():
        if values["start"] is None:
            del values["start"]
    return made({"formula": formula, "parameters": parameters}, name="mine", taken=())


SCALE, RATE = (0, INF), (-3, 3, 0.1, 1)


def test_a_two_phase_law_is_its_formula(tmp_path: Path) -> None:
    (tmp_path / "two-phase.toml").write_text(FILE)
    kind = qp.law(tmp_path / "two-phase.toml").kind
    values = {"E": 1.7, "A": 400.0, "alpha": 0.35, "C": 900.0, "beta": 0.4, "eta": 0.6}
    x, law = POINTS, kind.from_params(values)
    expected = 1.7 + 400 / x.n**0.35 + 900 / (x.d_fp + 0.6 * x.d_qat) ** 0.4
    np.testing.assert_allclose(law.predict(x), expected, rtol=1e-14)
    np.testing.assert_allclose(sum(law.components(x).values()), expected, rtol=1e-14)
    assert (kind.name, kind.sees_fraction, kind.sees_bits) == ("two-phase", True, True)
    assert list(law.components(x)) == ["E", "A/N^alpha", "C/(D_fp + eta*D_qat)^beta"]
    assert [p.symbol for p in law.parameters()] == ["E", "A", "α", "C", "β", "η"]
    assert [p.of for p in law.parameters()] == ["", "", "n", "", "d_total", "d_qat"]
    assert pickle.loads(pickle.dumps(law)) == law


def test_both_signs_of_a_power_and_its_order_mean_the_same() -> None:
    x = POINTS
    for formula in ("C*D**-b**2", "C*D^-b^2", "C/D^(b^2)"):
        law = own(formula, C=SCALE, b=RATE).from_params({"C": 3.0, "b": 0.4})
        np.testing.assert_allclose(law.predict(x), 3 * x.d_total**-0.16, rtol=1e-13)


def test_conditions_switch_parts_on_where_they_hold() -> None:
    """What is multiplied by 0 counts for nothing, inside a term too, even where it has no value."""
    law = own(
        "A/(N*(1 - trained*exp(-bits/g)))^a + F*quantized*2^(-k*bits)", A=SCALE, a=RATE, g=(0.05, 50), F=SCALE, k=RATE
    )
    found = law.from_params({"A": 5.0, "a": 0.3, "g": 2.0, "F": 0.2, "k": 1.0}).predict(POINTS)
    at = [5 / (1e8 * (1 - math.exp(-2))) ** 0.3 + 0.2 / 16, 5 / 1e9**0.3, 5 / (3e8 * (1 - math.exp(-0.5))) ** 0.3 + 0.1]
    np.testing.assert_allclose(found, at, rtol=1e-13)


def test_a_formula_that_is_no_sum_of_positive_terms_is_one_term() -> None:
    """Kaplan et al. 2020, arXiv 2001.08361, equation 1.5, and one that subtracts."""
    x = POINTS
    kaplan = own(
        "((N_c/N)^(a/b) + D_c/D)^b - 0.1", N_c=(1, 1e30, 1e13, 1e14), D_c=(1, 1e30, 1e13, 1e14), a=RATE, b=RATE
    )
    law = kaplan.from_params({"N_c": 8.8e13, "D_c": 5.4e13, "a": 0.076, "b": 0.095})
    assert [term.name for term in law.terms(x)] == ["formula"]
    expected = ((8.8e13 / x.n) ** (0.076 / 0.095) + 5.4e13 / x.d_total) ** 0.095 - 0.1
    np.testing.assert_allclose(law.predict(x), expected, rtol=1e-13)


def test_a_point_without_a_quantity_or_a_finite_value_is_outside() -> None:
    law = own("E + k/(S_qat^w*bits)", E=SCALE, k=SCALE, w=RATE).from_params({"E": 1.0, "k": 1.0, "w": 0.5})
    ends = Inputs.of(n=1e8, d_total=1e10, bits=[4, 4, np.nan], fraction=[0.0, 0.5, 0.0])
    assert [(why or "")[:28] for why in law.outside(ends)] == [
        "the formula has no finite va",
        "",
        "no bit width, and the formul",
    ]
    low = own("E - k*bits", E=(*SCALE, 0.1, 2), k=(*SCALE, 0.1, 2)).from_params({"E": 1.0, "k": 1.0})
    assert low.outside(ends.take([0])) == ["the formula is not more than 0 there, which no loss is"]


_NUMBER = st.floats(0.3, 2.5)
_LEAF = st.sampled_from(["p", "q", "r", "N", "D"]) | _NUMBER.map(lambda v: f"{v:.3f}")
FORMULA = st.recursive(
    _LEAF,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+*/"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(inner, st.sampled_from(["0.5", "-1.3", "p", "(q - 1)"])).map(lambda t: f"({t[0]})^{t[1]}"),
        inner.map(lambda a: f"exp(-({a})/9)"),
        inner.map(lambda a: f"log(1 + {a})"),
        inner.map(lambda a: f"sqrt({a} + 2)"),
    ),
    max_leaves=7,
)


@settings(max_examples=60, deadline=None)
@given(FORMULA, st.tuples(_NUMBER, _NUMBER, _NUMBER))
def test_derivatives_are_those_of_the_formula(formula: str, at: tuple[float, float, float]) -> None:
    """First and second ones of the log of random formulas, against mpmath's differences with 40 digits."""
    formula = f"0.1 + p + q + r + {formula}"
    kind = own(formula, p=(0.001, 9), q=(0.001, 9), r=(0.001, 9))
    x = Inputs.of(n=1.7, d_total=2.3)
    source = formula.replace("^", "**")

    def exact(p: Any, q: Any, r: Any) -> Any:
        names = {"exp": mpmath.exp, "log": mpmath.log, "sqrt": mpmath.sqrt, "N": mpmath.mpf(1.7), "D": mpmath.mpf(2.3)}
        return eval(source, {"__builtins__": {}}, names | {"p": p, "q": q, "r": r})

    law = kind.from_params(dict(zip("pqr", at, strict=True)))
    with mpmath.workdps(40):
        assert law.predict(x)[0] == pytest.approx(float(exact(*map(mpmath.mpf, at))), rel=1e-11)
        whole = _jet(kind, x, at)
        for i in range(3):
            order = tuple(int(i == k) for k in range(3))
            wanted = float(mpmath.diff(exact, tuple(map(mpmath.mpf, at)), order))
            assert np.ravel(whole.first.get(i, 0.0))[0] == pytest.approx(wanted, rel=1e-8, abs=1e-9)
            for j in range(i, 3):
                order = tuple(int(i == k) + int(j == k) for k in range(3))
                wanted = float(mpmath.diff(exact, tuple(map(mpmath.mpf, at)), order))
                assert np.ravel(whole.second.get((i, j), 0.0))[0] == pytest.approx(wanted, rel=1e-7, abs=1e-8)


def _jet(kind: Any, x: Inputs, at: tuple[float, float, float]) -> Jet:
    from qatplan.laws.own.evaluation import part_of, value

    variables = {name: jets.variable(np.array([v]), i) for i, (name, v) in enumerate(zip("pqr", at, strict=True))}
    return value(part_of(kind.read.tree, x), variables)


WRONG: list[tuple[Callable[[str], str], str]] = [
    (lambda s: s.replace("eta*D_qat", "etta*D_qat"), "'etta' is no parameter and no quantity (did you mean 'eta'?)"),
    (lambda s: s.replace("eta*D_qat", "D_qat"), "parameter eta does not occur in the formula"),
    (lambda s: s.replace("domain = [0, 3], start", "start", 1), "parameters.alpha.domain is missing"),
    (lambda s: s.replace("domain = [0, 3]", "domain = [3, 0]", 1), "its low end must be below its high one"),
    (lambda s: s.replace("domain = [0, 3]", "domain = [0, nan]", 1), "allowed are two numbers"),
    (lambda s: s.replace("domain = [0, 3]", f"domain = [0, {'9' * 4000}]", 1), "beyond 1e300"),
    (lambda s: s.replace("domain = [0, 3]", f"domain = [0, {'9' * 5000}]", 1), "is not valid TOML"),
    (lambda s: s.replace("start = [0.1, 1]", "start = [0.1, 5]", 1), "inside the domain [0, 3]"),
    (lambda s: s.replace("[0.01, 10], scale", "[-1, 10], scale"), "scale log needs one from 0 on"),
    (lambda s: s.replace('scale = "log"', 'scale = "lin"'), "allowed are log and linear"),
    (lambda s: s.replace("[0.01, 10], scale", "[0, inf], scale"), "parameters.eta.start is missing"),
    (lambda s: s.replace('meaning = "f"', "meaning = 3"), "parameters.eta.meaning is a number; a text"),
    (lambda s: s.replace(", unit", ", units", 1), "units is not a known key (did you mean 'unit'?)"),
    (lambda s: s.replace("formula =", "formulae ="), "formulae is not a known key (did you mean 'formula'?)"),
    (lambda s: s.replace("eta = {", "bits = {"), "has the name of a quantity"),
    (lambda s: 'name = "chinchilla"\n' + s, "which is that of a law of qatplan"),
    (lambda s: 'name = "Two Phase"\n' + s, "allowed are small letters"),
    (lambda s: s.replace("E + ", "__import__('os').system('ls') + "), "is not understood"),
    (lambda s: s.replace("E + ", "E + (lambda: 1)() + "), "is not understood"),
    (lambda s: s.replace("E + ", "min(E, A) + "), "min takes no parameters"),
    (lambda s: s.replace("E + ", "min(N) + E + "), "min takes 2 values, not 1"),
    (lambda s: s.replace("E + ", f"{'(' * 100_000}E{')' * 100_000} + "), "10000 are allowed"),
    (lambda s: s.replace("E + ", f"{'exp(' * 900}E{')' * 900} + "), "more than 100 levels are nested"),
    (lambda s: s.replace("E + ", f"{'9' * 5000} + E + "), "'999"),
    (lambda s: "x = " + "[" * 100_000, "is nested too deeply"),
    (lambda s: "x = 1\n[[[", "is not valid TOML"),
]


@pytest.mark.parametrize(("change", "sentence"), WRONG)
def test_a_wrong_file_is_one_sentence(change: Callable[[str], str], sentence: str, tmp_path: Path) -> None:
    place = tmp_path / "mine.toml"
    place.write_text(change(FILE))
    with pytest.raises(UsageError) as caught:
        qp.law(place)
    assert str(caught.value).startswith(f"law {place}")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_other_text_or_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes("# Größe".encode("latin-1"))
    with pytest.raises(UsageError, match="not UTF-8 text at byte 4"):
        qp.law(tmp_path / "latin.toml")
    with pytest.raises(UsageError, match="cannot be read"):
        qp.law(tmp_path / "nowhere.toml")
    with pytest.raises(UsageError, match="either a name or a file"):
        qp.law()


def test_a_huge_power_is_no_number_and_no_crash() -> None:
    law = own("E + N^9e99", E=SCALE)
    assert law.for_inputs(POINTS).outside(POINTS)[0] == "the formula has no finite value there"


def test_a_saved_fit_has_the_formula_and_is_checked_when_read() -> None:
    kind = own("E + C/D^b", E=SCALE, C=SCALE, b=RATE)
    stored = FittedLaw(law=kind.from_params({"E": 1.0, "C": 5.0, "b": 0.3})).to_json()
    assert FittedLaw.from_json(stored).law == kind.from_params({"E": 1.0, "C": 5.0, "b": 0.3})
    assert "definition" not in FittedLaw(law=QAT).to_json()
    for change, sentence in [
        ({"formula": "E + C/D^b + z"}, "'z' is no parameter"),
        ({"formula": 3}, "definition.formula is 3, which is not text"),
        ({"name": "chinchilla"}, "definition.name is 'chinchilla'"),
        ({"parameters": stored["definition"]["parameters"][:2]}, "'b' is no parameter"),
        ({"parameters": [{**p, "scale": "cubic"} for p in stored["definition"]["parameters"]]}, "is 'cubic'"),
    ]:
        with pytest.raises(DataError, match="damaged fit") as caught:
            FittedLaw.from_json({**stored, "definition": {**stored["definition"], **change}})
        assert sentence in str(caught.value)
    with pytest.raises(DataError, match="no law is called"):
        FittedLaw.from_json({**stored, "definition": None, "law": "/etc/mine.toml"})


def test_a_report_shows_powers_of_powers() -> None:
    shown = mathml(own("E + C*D^(-b*(1 + b))*N^-0.5", E=SCALE, C=SCALE, b=RATE).for_inputs(POINTS))
    assert str(shown).count("<msup>") == 2
    assert "<mn>0.5</mn>" in shown
    assert "^" not in shown
