"""What a comparison of splits says, and its JSON object."""

from __future__ import annotations

import json
import math
from dataclasses import replace

from qatplan.fitting.split.score import SplitComparison
from qatplan.fitting.split.summary import Entry, Scheme, Summary
from qatplan.laws.fit_parts import LeftOut
from qatplan.results import SplitComparison as Result
from qatplan.wording.split import split_object, split_sections, verdict
from qatplan.wording.text import to_text


def summary(mean: float, *, intervals: int = 0, loss: float = math.nan) -> Summary:
    return Summary(
        curves=20, mean_regret=mean, median_regret=mean / 2, worst_regret=4 * mean, interior=12, fraction_error=0.05,
        intervals=intervals, coverage=0.25 if intervals else math.nan, loss_error=loss,
    )  # fmt: skip


def entry(name: str, mean: float, behind: float = 0.0, error: float = math.nan, distances: int = 1) -> Entry:
    of = summary(mean, loss=0.0123 if name == "qat-loss" else math.nan)
    return Entry(
        name=name, kind="law", overall=of, behind=behind, behind_error=error, by_bits=((2.0, of), (4.0, summary(9e-4))),
        by_distance=tuple((2.0**k, summary(1e-3 * k)) for k in range(1, distances + 1)),
    )  # fmt: skip


LAW, RULE = entry("qat-loss", 0.00261), entry("always 10 %", 0.0302, 0.0275, 0.004)
FAILED = Entry(name="newcomer", kind="law", error="not fitted to 30 of the runs: 3 rows cannot do it")
CELL = Scheme(way="cell", folds=6, scored=20, entries=(LAW, RULE, FAILED))
TOKENS = Scheme(
    way="tokens", folds=3, scored=20, unanswered=2,
    entries=(entry("always 10 %", 0.001, distances=6), entry("qat-loss", 0.0015, 5e-4, 4e-4, distances=6)),
)  # fmt: skip
NONE = Scheme(way="size", why_not="the 20 curves are of 1 size; a rolling origin needs more")
MADE = SplitComparison(
    curves=20, interior=12, cells=18, schemes=(CELL, TOKENS, NONE), in_sample=replace(CELL, way="in sample"),
    left_out=(LeftOut(reason="the run diverged", rows=2, examples=("a", "b")),),
)  # fmt: skip


def lines(text: str, begin: str) -> list[str]:
    """Lines that begin with a word, their cells separated by one space."""
    return [" ".join(line.split()) for line in text.splitlines() if line.strip().startswith(begin)]


def test_a_screen_holds_every_scheme() -> None:
    text = to_text(split_sections(MADE))
    assert repr(Result(MADE)) == to_text(split_sections(MADE), more="text(details=True)")
    assert max(map(len, text.splitlines())) <= 80
    assert "20 curves of 18 cells (size, tokens, bits), 12 lowest inside" in text
    assert lines(text, "qat-loss")[:2] == [
        "qat-loss 2.6 1.3 10.4 0.050 1.2 % 2.6",
        "qat-loss 1.5 6.0 1.0 2.0 3.0 6.0 0.050 1.2 %",
    ]
    assert lines(text, "law or rule") == [
        "law or rule mean median worst off f off loss in sample",
        "law or rule mean worst to 2x to 4x to 8x to 64x off f off loss",
    ]
    assert "Larger budgets: 3 fits a law, 20 curves scored, 2 without an answer from all" in text
    assert "the 20 curves are of 1 size" in text
    assert "newcomer (held out by cell): not fitted to 30 of the runs" in " ".join(text.split())
    assert "--bootstrap 200 scores intervals" in text


def test_details_show_bits_distances_and_rows_left_out() -> None:
    text = to_text(split_sections(MADE, details=True))
    assert "law or rule to 2x to 4x to 8x to 16x to 32x to 64x" in lines(text, "law or rule")
    assert "law or rule 2 4" in lines(text, "law or rule")
    assert "always 10 % 30.2 0.9" in lines(text, "always 10 %")
    assert "2 rows: the run diverged" in text


def test_intervals_have_a_column_where_they_were_drawn() -> None:
    drawn = replace(LAW, overall=summary(0.002, intervals=12))
    text = to_text(split_sections(replace(MADE, schemes=(replace(CELL, entries=(drawn, RULE)), TOKENS, NONE))))
    assert "qat-loss 2.0 1.0 8.0 0.050 25 % 2.6" in lines(text, "qat-loss")
    assert "always 10 % 30.2 15.1 120.8 0.050 30.2" in lines(text, "always 10 %")
    assert "--bootstrap" not in text


def test_the_verdict_says_who_cannot_be_told_apart() -> None:
    assert verdict(MADE) == [
        "By cell: qat-loss costs least (2.6)",
        "On larger budgets: always 10 % costs least (1.0); not told from it: qat-loss (1.5)",
    ]
    apart = replace(TOKENS, entries=(TOKENS.entries[0], replace(TOKENS.entries[1], behind_error=1e-4)))
    assert verdict(replace(MADE, schemes=(CELL, apart, NONE)))[1:] == [
        "On larger budgets: always 10 % costs least (1.0)",
        "These disagree; larger budgets and models are nearer to a plan beyond the runs",
    ]
    loose = replace(CELL, entries=(replace(LAW, uncertified=4), RULE))
    assert verdict(replace(MADE, schemes=(loose, NONE)))[-1] == "qat-loss: 4 of 6 fits did not pass their certificate"


def test_the_json_object_keeps_its_keys() -> None:
    made = split_object(MADE)
    assert list(made) == ["score", "curves", "interior", "cells", "schemes", "in_sample", "left_out", "said"]
    assert [list(s) for s in made["schemes"]] == [["way", "folds", "scored", "unanswered", "why_not", "entries"]] * 3
    law, _, failed = made["schemes"][0]["entries"]
    assert list(law) == [
        "name", "kind", "parameters", "uncertified", "overall", "behind", "behind_error", "error", "by_bits",
        "by_distance",
    ]  # fmt: skip
    assert law["overall"]["mean_regret"] == 0.00261
    assert law["overall"]["coverage"] is None
    assert [b["bits"] for b in law["by_bits"]] == [2, 4]
    assert failed["overall"] is None
    assert str(failed["error"]) in made["said"][-2]
    assert Result(MADE).as_dict() == json.loads(json.dumps(made, allow_nan=False))
