"""What a comparison says, and its JSON object."""

from __future__ import annotations

from dataclasses import replace

from qatplan.fitting.compare import Comparison, Entry, Verdict
from qatplan.laws.fit_parts import LeftOut
from qatplan.results import Comparison as Result
from qatplan.wording.compare import compare_object, compare_sections, note, verdict
from qatplan.wording.text import to_text

BEST = Entry(law="qat-loss", parameters=16, rows=90, mape=0.02, max_ape=0.07, in_sample_mape=0.015, aic=-9.25,
             bic=-1.5, objective=0.1, status="good")  # fmt: skip
SIMPLE = replace(BEST, law="effective", parameters=10, mape=0.0205, bic=-3.0, not_predictable=2,
                 terms_left_out=("no row supports the term 'x'; the law was fitted without it",))  # fmt: skip
FAILED = Entry(law="chen2025", rows=90, error="3 rows cannot determine the 20 parameters")
COMPARED = Comparison(
    entries=(BEST, SIMPLE, FAILED), holdout="largest-d", rows=90, held_out=18,
    left_out=(LeftOut(reason="the run diverged", rows=2, examples=("a", "b")),), seed_noise=0.007,
    verdict=Verdict(best=BEST, simpler=SIMPLE, by_bic=SIMPLE),
)  # fmt: skip


def test_the_default_fits_a_terminal_and_details_say_the_rest() -> None:
    text = to_text(compare_sections(COMPARED))
    assert max(map(len, text.splitlines())) <= 80
    assert len(text.splitlines()) <= 35
    assert "chen2025: 3 rows cannot determine the 20 parameters" in text
    assert "differ by 0.7 %" in text
    assert "AIC" not in text.splitlines()[0]
    assert not [line for line in text.splitlines()[:-1] if "AIC" in line]
    details = to_text(compare_sections(COMPARED, details=True))
    assert "-9.2" in details
    assert "2 rows: the run diverged" in details
    assert "fitted without it; 2 held-out rows have bits it was not fitted on" in " ".join(details.split())
    assert repr(Result(COMPARED)) == text.replace("--details", "text(details=True)")


def test_verdict() -> None:
    assert verdict(COMPARED) == [
        "qat-loss predicts the 18 held-out rows best (2 % mean error)",
        "effective is within 15 % of that with 10 instead of 16 parameters, so the extra ones buy little here",
        "BIC prefers effective; where both disagree, the held-out error is the better guide to larger runs",
    ]
    alone = replace(COMPARED, verdict=Verdict(best=BEST, simpler=None, by_bic=BEST))
    assert len(verdict(alone)) == 1
    assert verdict(replace(COMPARED, verdict=None)) == []
    assert "Verdict" not in to_text(compare_sections(replace(COMPARED, verdict=None, seed_noise=None)))


def test_the_json_object_keeps_its_keys() -> None:
    made = compare_object(COMPARED)
    assert list(made) == ["entries", "holdout", "rows", "held_out", "left_out", "scatter", "said"]
    assert list(made["entries"][0]) == [
        "law", "parameters", "rows", "mape", "max_ape", "in_sample_mape", "aic", "bic", "objective", "status", "note",
    ]  # fmt: skip
    assert made["entries"][2]["status"] == "not fitted"
    assert made["entries"][2]["note"] == note(FAILED) == FAILED.error
    assert made["left_out"] == [{"reason": "the run diverged", "rows": 2, "examples": ["a", "b"]}]
    assert Result(COMPARED).as_dict() == made
