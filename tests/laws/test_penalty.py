"""The sign of the penalty's change with tokens, where the laws of the literature disagree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.law_examples import QAT

from qatplan.laws import FittedLaw, Inputs, QatFraction
from qatplan.laws.penalty import FRACTION, penalty_slope

RANGES = {"n": (1e8, 1e9), "d_total": (1e10, 1e11), "bits": (2.0, 8.0)}


def test_the_unified_law_falls_and_its_slope_is_the_derivative() -> None:
    found = penalty_slope(FittedLaw(law=QAT, ranges=RANGES), 4.0)
    assert found is not None
    assert found.sign == -1
    n, d, h = 10**8.5, 10**10.5, 1e-5

    def gap(tokens: float) -> float:
        at = QAT.predict(Inputs.of(n=n, d_total=tokens, bits=4, fraction=FRACTION))
        return float((at - QAT.predict(Inputs.of(n=n, d_total=tokens)))[0])

    assert found.slope == pytest.approx((gap(d * np.exp(h)) - gap(d * np.exp(-h))) / (2 * h), rel=1e-3)
    assert (found.n, found.d_total) == (pytest.approx(n), pytest.approx(d))


def test_the_draws_say_whether_the_sign_is_known() -> None:
    values = np.array([list(QAT.params().values())] * 200)
    names = list(QAT.params())
    values[:, names.index("omega")] = np.linspace(0.4, 0.6, 200)
    known = penalty_slope(FittedLaw(law=QAT, ranges=RANGES, draws=values), 4.0)
    assert known is not None
    assert known.interval is not None
    assert known.interval[0] < known.slope < known.interval[1] < 0
    assert known.sign == -1
    assert replace(known, interval=(-1.0, 1.0)).sign == 0
    assert replace(known, interval=(0.1, 1.0)).sign == 1


def test_laws_without_an_answer_give_none() -> None:
    assert penalty_slope(FittedLaw(law=QatFraction(), ranges=RANGES), 4.0) is None
    assert penalty_slope(FittedLaw(law=QAT), 4.0) is None
