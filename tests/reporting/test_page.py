"""The page: what it says against the fit's numbers, well-formed, self-contained, escaped and repeatable."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.report_sweeps import HOSTILE, fit_of, write_runs
from support.reports import build

from qatplan import api, runs
from qatplan.errors import DataError, UsageError
from qatplan.figures import parameters
from qatplan.laws import Chinchilla, ChinchillaPerBits, FittedLaw, QatFraction, Status
from qatplan.reporting.build import CONTENTS, Report, is_report
from qatplan.reporting.formula import mathml
from qatplan.reporting.material import gather
from qatplan.reporting.question import Question
from qatplan.results import Fit

VOID = {"meta", "br", "link", "wbr"}
RANGES = {"n": (32e3, 350e3), "d_total": (9.6e5, 1.05e8), "bits": (2.0, 4.0), "s_total": (60.0, 2400.0)}


class Reader(HTMLParser):
    """Checks that elements close in order; gathers text, identifiers and attributes that load something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.loads: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)
        self.close()
        self.faults += [f"{tag} is not closed" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._seen(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._seen(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        self.text += data + " " * (self.open[-1:] != ["sub"])

    def _seen(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for key, value in attrs:
            if key == "id":
                self.ids.append(value or "")
            if key in ("src", "href", "xlink:href", "action", "data", "srcset"):
                self.loads.append(value or "")


@pytest.fixture(scope="module", autouse=True)
def _words_are_measured_once() -> Iterator[None]:
    """All pages name the same parameters, and measuring their meanings is a good part of drawing them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parameters, "text_width", functools.cache(parameters.text_width))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report")
    write_runs(path / "runs.parquet")
    fit_of(path / "runs.parquet").write(path / "fit.json")
    return path


@pytest.fixture(scope="module")
def made(folder: Path) -> Report:
    return build(folder / "fit.json")


@pytest.fixture(scope="module")
def alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Of a fit that fails its checks and whose runs are not at hand."""
    path = tmp_path_factory.mktemp("alone") / "doubtful.json"
    fit_of(folder / "runs.parquet", status=Status.STARTS_DISAGREE).write(path)
    return build(path)


@pytest.fixture(scope="module")
def page(made: Report) -> Reader:
    return Reader(made.html)


def test_elements_close_in_order_and_identifiers_are_unique(page: Reader) -> None:
    assert page.faults == []
    assert len(page.ids) == len(set(page.ids))
    assert set(CONTENTS) <= set(page.ids)


def test_nothing_is_loaded_from_outside_and_no_script_runs(made: Report, page: Reader) -> None:
    assert all(load.startswith(("#", "data:,")) for load in page.loads)
    assert not page.tags & {"script", "iframe", "img", "object", "embed", "form"}
    assert not re.search(r"url\(\s*[^#\s]|@import", made.html)
    # Every local reference has its target.
    inside = {load[1:] for load in page.loads if load.startswith("#")} | set(re.findall(r"url\(#([^)]+)\)", made.html))
    assert inside <= set(page.ids)


def test_every_figure_is_there_with_its_own_names(made: Report) -> None:
    assert made.figures == ("parameters", "loss-curves", "residuals", "fraction", "contours", "frontier")
    assert made.html.count("<svg ") == len(made.figures) == made.html.count("<figcaption>")
    assert not made.not_drawn
    assert re.search(r'<svg [^>]*role="img" aria-label="[^"]{20,}"', made.html)


def test_the_fits_numbers_are_on_the_page(made: Report, page: Reader) -> None:
    fitted = made.material.fitted
    text = page.text.replace("\u202f", " ")
    for p in fitted.law.parameters():
        assert p.meaning in text
        low, high = fitted.intervals[p.name]
        shown = re.search(rf"{re.escape(p.meaning)}", text)
        assert shown is not None
        numbers = text[max(0, shown.start() - 90) : shown.start()]
        found = re.findall(r"(−?[\d.]+)\s+(−?[\d.]+) to (−?[\d.]+)", numbers)[-1]
        value, bottom, top = (float(v.replace("−", "-")) for v in found)
        # Rounded to two digits of a quarter of the interval.
        assert (value, bottom, top) == pytest.approx((fitted.params[p.name], low, high), abs=(high - low) / 20)
    for said in (
        f"fitted on {fitted.rows} runs", "12 of 16 starts agree", "mean error 1.2 %", "0.15 %", "run00042",
        "rho is hardly determined", str(fitted.provenance and fitted.provenance.rows_digest), "4 runs diverged",
        str(made.material.fit_digest), "qatplan fit runs.parquet", "they are the",
    ):  # fmt: skip
        assert said in text, said


def test_the_plan_is_the_planners(made: Report, page: Reader) -> None:
    from qatplan.planning.recommend import Recommendation, recommend

    advice = made.answer.advice
    assert isinstance(advice, Recommendation)
    assert recommend(made.material.fitted, advice.problem).choice.plan.loss == advice.choice.plan.loss
    assert f"QAT fraction {advice.choice.plan.fraction:.3f}" in page.text
    assert all(f"{option.plan.loss:.3f}" in page.text for option in advice.alternatives)
    # A setting that was measured, so nothing is extrapolated.
    assert advice.extrapolation.sentences == ()
    assert advice.problem.vocabulary == 256


def test_what_files_say_is_escaped(made: Report) -> None:
    assert "<script" not in made.html
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt; &amp; co" in made.html


def test_the_same_files_give_the_same_page(made: Report, folder: Path) -> None:
    assert build(folder / "fit.json").html == made.html


def test_a_fit_that_fails_its_checks_is_warned_of_first(alone: Report) -> None:
    assert "not trustworthy" in alone.doubts[0]
    text = Reader(alone.html).text
    assert text.index("Warning: not to be relied upon") < text.index("In short") < text.index("The question")
    assert Status.STARTS_DISAGREE.message in text


def test_without_runs_the_page_says_what_the_fit_remembers(alone: Report) -> None:
    assert alone.material.table is None
    assert "loss-curves" not in alone.figures
    text = Reader(alone.html).text
    assert "The runs were not at hand" in text
    assert "the run diverged" in text


def test_other_runs_than_the_fits_and_a_plan_far_outside_their_range_are_remarked_upon(
    tmp_path: Path, folder: Path
) -> None:
    write_runs(tmp_path / "other.parquet", loss_se=0.002)
    table = runs.read([tmp_path / "other.parquet"])
    runs.write(table.slice(0, 40), tmp_path / "other.parquet")
    question = Question(params=1e9, tokens=1e12)
    other = build(folder / "fit.json", [tmp_path / "other.parquet"], question)
    assert other.material.exact is False
    assert "not exactly the runs" in Reader(other.html).text
    assert "the plan is too far outside" in other.doubts[0]
    assert "this plan is not to be relied upon" in other.html


def test_budgets_are_the_users(folder: Path) -> None:
    asked = build(folder / "fit.json", question=Question(params=50e3, tokens=4e6, bits=(2.0,)))
    text = Reader(asked.html).text
    assert "Asked: 50K parameters; 4M training tokens; bit widths 2." in text
    assert "--params 50000 --tokens 4000000" in text
    with pytest.raises(UsageError, match="too small"):
        build(folder / "fit.json", question=Question(memory=1000.0, tokens=4e6))


@pytest.mark.parametrize("law", [QatFraction(a=5.0), Chinchilla.published()])
def test_laws_that_cannot_plan_everything_say_so(law: QatFraction | Chinchilla, tmp_path: Path) -> None:
    ranges = {k: v for k, v in RANGES.items() if law.name == "qat-fraction" or k in ("n", "d_total")}
    FittedLaw(law=law, ranges=ranges, rows=30, noise=0.002).write(tmp_path / "fit.json")
    said = build(tmp_path / "fit.json")
    text = Reader(said.html).text
    assert Reader(said.html).faults == []
    assert ("Losses, and the choice of bits, need a sweep" in text) == (law.name == "qat-fraction")
    assert ("with 4-bit weights" in text) == (law.name == "qat-fraction")
    assert ("This fit gives no plan" in text) == (law.name == "chinchilla")


def test_only_our_own_pages_are_known(tmp_path: Path, made: Report) -> None:
    (tmp_path / "ours.html").write_text(made.html, encoding="utf-8")
    (tmp_path / "theirs.html").write_text(f"<html>{HOSTILE} qatplan report</html>", encoding="utf-8")
    assert is_report(tmp_path / "ours.html")
    assert not is_report(tmp_path / "theirs.html")
    assert not is_report(tmp_path / "none.html")


def test_a_fit_at_hand_needs_no_file(folder: Path, tmp_path: Path) -> None:
    fitted = FittedLaw.read(folder / "fit.json")
    made = api.report(Fit(fitted), runs.read([folder / "runs.parquet"]), out=tmp_path / "page.html", params="50K")
    assert made.material.exact is True
    assert made.as_dict()["fit_sha256"] is None
    assert is_report(tmp_path / "page.html")
    with pytest.raises(DataError, match="the table holds no runs"):
        gather(fitted, table=runs.read([folder / "runs.parquet"]).slice(0, 0))


def test_words_of_a_formula_are_words_and_powers_are_powers() -> None:
    formula = mathml(ChinchillaPerBits.published())
    assert "<mtext>\u00a0for\u00a0</mtext>" in formula
    assert "<msup><mi>N</mi><mrow>" in formula
    assert "<mi>ln\u2009</mi>" in mathml(QatFraction(a=5.0))
