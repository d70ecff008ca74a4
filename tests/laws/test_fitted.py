"""The fit file: what is written is what is read, and what it predicts with."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from support.law_examples import POINTS, QAT, example

from qatplan.errors import DataError, NotTrustworthy, UsageError
from qatplan.laws import NAMES, FittedLaw, Inputs, Status
from qatplan.laws.fit_parts import Certificate, Score

FITS = Path(__file__).parents[2] / "fits"


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
    assert any("5B parameters are 5 times the largest measured" in s for s in said)
    assert any(s.startswith("8 bits are above the largest measured") for s in said)
    assert sample().extrapolation(Inputs.of(n=5e8, d_total=2e10, bits=2, fraction=0.1)) == []


def test_failed_certificate_raises_with_the_fit_as_evidence() -> None:
    fit = dataclasses.replace(sample(), status=Status.STARTS_DISAGREE)
    with pytest.raises(NotTrustworthy, match="qat-loss is not trustworthy") as caught:
        fit.require_trust()
    assert caught.value.evidence is fit


@pytest.mark.parametrize("name", ["qat-loss", "chinchilla", "qat-fraction"])
def test_shipped_fits_are_written_as_they_were_read(name: str, tmp_path: Path) -> None:
    FittedLaw.read(FITS / f"{name}.json").write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (FITS / f"{name}.json").read_bytes()


def test_numbers_that_are_not_finite_are_null_and_stay_so(tmp_path: Path) -> None:
    fit = dataclasses.replace(sample(), certificate=Certificate(starts=3, condition_number=math.inf))
    fit.write(tmp_path / "a.json")
    back = FittedLaw.read(tmp_path / "a.json")
    assert math.isnan(back.certificate.condition_number or 0.0)
    back.write(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("left_out", [{"reason": "diverged", "rows": "many", "examples": []}]),
        ("holdout", {"kind": 3}),
        ("criticism", {"aic": 1.0}),
        ("provenance", {"qatplan": "0.1.0"}),
        ("certificate", {"bootstrap": 5}),
        ("certificate", {"bootstrap": []}),
        ("level", "0.95 or so"),
        ("rows", None),
        ("huber", []),
        ("derived", 5),
        ("n_convention", 3),
        ("seed_noise", {}),
        ("intervals", {"E": [1.0]}),
        ("provenance", [1]),
        ("draws", [1.0, 2.0]),
    ],
)
def test_a_damaged_part_is_refused(part: str, value: object, tmp_path: Path) -> None:
    content = {**sample().to_json(), part: value}
    with pytest.raises(DataError, match="damaged fit"):
        FittedLaw.from_json(content)


def test_a_fit_is_one_short_line() -> None:
    assert len(repr(FittedLaw.read(FITS / "qat-loss.json"))) < 600


def test_what_was_not_fitted_is_told_from_what_ended_at_0() -> None:
    shipped = FittedLaw.read(FITS / "qat-loss.json")
    assert shipped.params["rho"] == 0
    assert list(shipped.fixed) == ["theta", "kappa"]
    assert list(dataclasses.replace(shipped, intervals={}).fixed) == ["theta", "kappa"]


@pytest.mark.parametrize("name", NAMES)
def test_draws_become_coordinates_as_the_law_makes_them(name: str) -> None:
    law = example(name)
    laws = [law, law.from_coordinates(law.coordinates() * 1.01)]
    draws = np.array([list(one.params().values()) for one in laws])
    theta = FittedLaw(law=law, draws=draws).draw_coordinates()
    np.testing.assert_allclose(theta, [law.coordinates(), law.coordinates() * 1.01], rtol=1e-12)


def test_intervals_need_a_level_and_a_noise() -> None:
    with pytest.raises(UsageError, match="level is 1"):
        sample().predict_interval(POINTS, level=1.0)
    with pytest.raises(UsageError, match="no noise"):
        dataclasses.replace(sample(), noise=math.nan).predict_interval(POINTS, kind="prediction")
