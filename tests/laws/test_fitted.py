"""The fit file: what is written is what is read, and what it predicts with."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from support.law_examples import POINTS, QAT

from qatplan.errors import DataError, NotTrustworthy, UsageError
from qatplan.laws import FittedLaw, Inputs, Status
from qatplan.laws.fit_parts import Score


def sample() -> FittedLaw:
    """A fit with five draws around a law."""
    rng = np.random.default_rng(0)
    values = np.array(list(QAT.params().values()))
    return FittedLaw(
        law=QAT,
        draws=values * np.exp(0.01 * rng.standard_normal((5, len(values)))),
        intervals={"E": (1.7, 1.9)},
        noise=0.02,
        rows=99,
        flags=("a flag",),
        ranges={"n": (1e8, 1e9), "d_total": (1e10, 1e11), "bits": (1.0, 4.0)},
        holdout=Score(mape=0.01, max_ape=0.02),
    )


def test_round_trip(tmp_path: Path) -> None:
    fit = sample()
    path = tmp_path / "fit.json"
    fit.write(path)
    back = FittedLaw.read(path)
    assert back.draws is not None
    assert fit.draws is not None
    np.testing.assert_array_equal(back.draws, fit.draws)
    assert dataclasses.replace(back, draws=None).to_json() == dataclasses.replace(fit, draws=None).to_json()
    content = json.loads(path.read_text())
    promised = ["law", "params", "intervals", "objective", "rows", "starts", "starts_agreeing", "status", "flags"]
    for key in [*promised, "holdout", "n_convention", "provenance"]:
        assert key in content
    assert content["objective"] is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "qatplan-fit-1", "law": "chinchilla"}', "\x00\x01"])
def test_foreign_files_are_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"other\.json"):
        FittedLaw.read(path)


def test_prediction_interval_contains_confidence_interval() -> None:
    fit = sample()
    low, high = fit.predict_interval(POINTS)
    wide_low, wide_high = fit.predict_interval(POINTS, kind="prediction")
    assert (wide_low < low).all()
    assert (wide_high > high).all()


def test_without_draws_no_interval_is_invented() -> None:
    with pytest.raises(UsageError, match="no bootstrap draws"):
        dataclasses.replace(sample(), draws=None).predict_interval(POINTS)


def test_extrapolation_is_said() -> None:
    said = sample().extrapolation(Inputs.of(n=5e9, d_total=2e10, bits=8, fraction=0.1))
    assert any("parameters 5e+09 is above" in s and "5 times" in s for s in said)
    assert any(s.startswith("bits 8 is above") for s in said)
    assert sample().extrapolation(Inputs.of(n=5e8, d_total=2e10, bits=2, fraction=0.1)) == []


def test_failed_certificate_raises_with_the_fit_as_evidence() -> None:
    fit = dataclasses.replace(sample(), status=Status.STARTS_DISAGREE)
    with pytest.raises(NotTrustworthy, match="qat-loss is not trustworthy") as caught:
        fit.require_trust()
    assert caught.value.evidence is fit
