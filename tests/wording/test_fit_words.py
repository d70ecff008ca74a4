"""What a fit says: little by default, everything on demand, never wider than the terminal."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from qatplan.laws import Chinchilla, FittedLaw, Status
from qatplan.laws.fit_parts import (
    Certificate,
    FractionDiagnostics,
    LeftOut,
    LossDiagnostics,
    Resampling,
    ResidualGroup,
    Residuals,
    Score,
)
from qatplan.laws.flags import Flag
from qatplan.results import Fit
from qatplan.wording.fit import fit_sections, held_out, short_sections
from qatplan.wording.text import to_text

FITS = Path(__file__).parents[2] / "fits"
NAMES = ["qat-loss", "chinchilla", "qat-fraction"]
BARE = FittedLaw(law=Chinchilla.published(), rows=12)


def shipped(name: str) -> FittedLaw:
    return FittedLaw.read(FITS / f"{name}.json")


def squeezed(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("name", NAMES)
def test_a_fit_is_said_in_35_lines_of_80_columns(name: str) -> None:
    fitted = shipped(name)
    lines = to_text(fit_sections(fitted)).splitlines()
    assert len(lines) <= 35
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for parameter in fitted.law.parameters():
        assert f" {parameter.name} " in text
    assert "Certificate holds; " in text
    assert "--details" in lines[-1]


@pytest.mark.parametrize("name", NAMES)
def test_its_repr_has_15_lines(name: str) -> None:
    lines = repr(Fit(shipped(name))).splitlines()
    assert len(lines) <= 15
    assert max(map(len, lines)) <= 80
    assert lines == to_text(short_sections(shipped(name)), more="text(details=True)").splitlines()


def test_at_most_five_flags_the_weightiest_first() -> None:
    text = to_text(fit_sections(shipped("qat-fraction")))
    flags = [line for line in text.splitlines() if line.startswith("  - ")]
    assert len(flags) == 5
    assert flags[0].startswith("  - the loss law fitted to the same rows fails its certificate")
    assert "2 more: --details" in text
    assert "rank correlation" not in text


def test_flags_that_find_no_room_are_counted() -> None:
    long = [Flag.LOSS_LAW_MISSING(error="word " * 400), "short"]
    text = to_text(fit_sections(replace(shipped("qat-loss"), flags=tuple(long))))
    assert len(text.splitlines()) <= 35
    assert "3 more: --details" in text


def test_details_leave_nothing_out() -> None:
    fitted = shipped("qat-loss")
    text = squeezed(to_text(fit_sections(fitted, details=True)))
    for sentence in (*fitted.flags, *fitted.identifiability, *(e.reason for e in fitted.left_out)):
        assert sentence in text
    for title in ("Each size predicted from the others", "Log residuals by bits", "by QAT fraction", "AIC -1438.5"):
        assert title in text
    assert "scaled gradient 1.3e-11" in text
    assert "1000 residual draws of 6 clusters, 1 unfinished" in text
    assert squeezed(fitted.law.formula) in text
    assert "0.029 to 0.031" in text.replace("0.0287 to 0.0307", "0.029 to 0.031"), "a range of fractions"
    assert "(at its bound)" in text


def test_details_of_the_fraction_law_list_every_curve() -> None:
    fitted = shipped("qat-fraction")
    assert isinstance(fitted.diagnostics, FractionDiagnostics)
    sections = {s.title: s for s in fit_sections(fitted, details=True)}
    (curves,) = sections["Measured optimal fractions"].blocks
    assert len(curves.rows) == len(fitted.diagnostics.curves)  # type: ignore[union-attr]
    text = to_text(fit_sections(fitted, details=True))
    assert "weighted squares of fractions" in squeezed(text)
    good = replace(
        fitted.diagnostics.loss_law,
        a=7.5,
        status="good",  # type: ignore[type-var]
    )
    text = squeezed(to_text(fit_sections(replace(fitted, diagnostics=replace(fitted.diagnostics, loss_law=good)))))
    assert "Optima of the loss law fitted to the same rows: a = 7.5, error" in text
    without = replace(fitted, diagnostics=replace(fitted.diagnostics, loss_law=None))
    assert "Optima of the loss law" not in to_text(fit_sections(without))


def test_a_fit_that_is_not_to_be_trusted_says_so_first() -> None:
    fitted = replace(BARE, status=Status.UNDETERMINED, certificate=Certificate(starts=16, starts_agreeing=1))
    parts = fit_sections(fitted)
    assert parts[1].warning
    assert "Certificate fails; the rows do not determine all parameters" in squeezed(to_text(parts))
    assert "1 of 16 starts agree" in squeezed(to_text(parts))


def test_a_bare_fit_has_no_empty_sections() -> None:
    text = to_text(fit_sections(BARE))
    assert text.splitlines()[-1] == "  Everything: --details."
    assert "Flags" not in text
    assert "fixed" not in text, "without intervals nothing tells what was fixed"
    details = to_text(fit_sections(BARE, details=True))
    assert "Residual standard" not in details
    assert "nan" not in details.split("objective nan")[0]


def test_one_open_question_is_one() -> None:
    assert "1 parameter is hardly identified" in to_text(fit_sections(replace(BARE, identifiability=("E is open",))))


def test_held_out_scores() -> None:
    none = Score(kind="largest-n", rows=0, fitted_rows=9, not_predictable=4)
    assert held_out(none) == "Held out (largest-n): none of the 4 runs could be predicted from the others."
    bare = Score(kind="largest-d", rows=5, fitted_rows=9, mape=0.01, max_ape=0.02)
    assert held_out(bare) == ("Held out (largest-d): 5 runs predicted from 9, mean error 1 %, worst 2 %.")


def test_single_rows_have_no_deviation_and_missing_values_a_word() -> None:
    group = ResidualGroup(value="full precision", rows=1, mean=-0.002, sd=None, largest=0.002)
    found = LossDiagnostics(residuals=Residuals(bits=(group,), n=()), aic=1.0, bic=2.0)
    fitted = replace(
        BARE,
        diagnostics=found,
        left_out=(LeftOut(reason="the run diverged", rows=2, examples=("a", "b")),),
        certificate=Certificate(
            starts=4, starts_agreeing=4, scaled_gradient=1e-9, condition_number=math.nan, parameters_at_bounds=(),
            bootstrap=Resampling(draws=9, kind="case", clusters=3, unfinished=0),
        ),
    )  # fmt: skip
    text = squeezed(to_text(fit_sections(fitted, details=True)))
    assert "full precision 1 -0.002 0.002" in text
    assert "2 rows: the run diverged (e.g. a)" in text
    assert "condition number unknown; at bounds: none" in text
    assert "Fitted on 12 runs; 2 left out." in text


GAINS = [10.0**power for power in range(-16, 4)]


@pytest.mark.parametrize(
    ("status", "decrement"),
    [(s, gain) for s in Status for gain in GAINS if (gain > 1e-9) is (s is Status.NOT_CONVERGED)],
)
def test_the_words_of_a_certificate_never_contradict_its_numbers(status: Status, decrement: float) -> None:
    """A kink of the Huber loss leaves a large gradient at an optimum: words are about what a step would gain."""
    proof = Certificate(
        starts=8, starts_agreeing=8, scaled_gradient=21.0, newton_decrement=decrement, condition_number=9.0
    )
    text = squeezed(to_text(fit_sections(replace(BARE, status=status, certificate=proof), details=True)))
    assert f"scaled gradient 21; one more step would gain {decrement:.2g} of the objective" in text
    assert "vanish" not in text
    assert "gradient is" not in text
    assert ("still gain" in text) is (status is Status.NOT_CONVERGED)
    assert ("would gain nothing" in text) is (status is Status.GOOD)
