"""From a fit, its runs and a question to the finished page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qatplan import __version__
from qatplan.errors import UsageError
from qatplan.report.curves_section import curves_section
from qatplan.report.drawings import Drawings
from qatplan.report.law_section import law_section
from qatplan.report.limits_section import limits_section
from qatplan.report.markup import (
    Markup,
    bullets,
    element,
    escape,
    join,
    paragraph,
    section,
    warning,
)
from qatplan.report.material import Material, gather
from qatplan.report.plan_section import headline, plan_section
from qatplan.report.provenance_section import provenance_section
from qatplan.report.question import Ask, Plan, plan
from qatplan.report.runs_section import runs_section
from qatplan.report.style import CSS
from qatplan.storage.base import Location
from qatplan.units import format_count
from qatplan.wording.numbers import percent

GENERATOR = "qatplan report"
_MARK = f'<meta name="generator" content="{GENERATOR} '
CONTENTS = (
    ("question", "Question"), ("runs", "Runs"), ("law", "Law"), ("curves", "Data"), ("plan", "Plan"),
    ("limits", "Not determined"), ("provenance", "Provenance"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Report:
    """A finished page and what it says."""

    html: str
    title: str
    material: Material
    plan: Plan
    figures: tuple[str, ...]
    """Kinds of figures, in order."""
    not_drawn: dict[str, str]
    """Figures that could not be drawn, and why."""
    doubts: tuple[str, ...]
    """Why the page must not be relied upon; empty for a good fit and plan."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON: what the page holds, and the plan in full."""
        fitted, advice = self.material.fitted, self.plan.advice
        return {
            "title": self.title,
            "law": fitted.law.name,
            "status": str(fitted.status),
            "status_message": fitted.status.message,
            "doubts": list(self.doubts),
            "rows": fitted.rows,
            "runs": list(self.material.run_names),
            "runs_are_those_of_the_fit": self.material.exact,
            "figures": list(self.figures),
            "not_drawn": self.not_drawn,
            "sections": [key for key, _ in CONTENTS],
            "plan": None if advice is None else advice.as_dict(),
            "no_plan_because": self.plan.reason,
            "fit_sha256": self.material.fit_digest,
        }


def build(fit: Path, runs: Sequence[Location] = (), ask: Ask | None = None) -> Report:
    """The report of a fit. Raises UsageError or DataError for files or budgets that cannot be used.

    A fit or a plan that is not trustworthy gets its page, which says so first; `doubts` then holds why.
    """
    material = gather(fit, runs)
    question = ask or Ask()
    planned = plan(material, question)
    drawings = Drawings(material=material, plan=planned)
    doubts = _doubts(material, planned)
    sections = [
        _question(material),
        runs_section(material),
        law_section(material, drawings, planned),
        curves_section(material, drawings),
        plan_section(material, planned, drawings),
        limits_section(material, planned, drawings),
        provenance_section(material, question, planned, drawings),
    ]
    title = f"{material.fitted.law.title}: fitted on {material.fitted.rows} runs"
    contents = element(
        "nav",
        element("ul", *(element("li", element("a", name, href=f"#{key}")) for key, name in CONTENTS)),
        aria_label="Contents",
    )
    body = [
        element("header", element("h1", title), paragraph("A report of quantization-aware training.", class_="lead")),
        _warning(doubts),
        _in_short(material, planned),
        contents,
        *sections,
    ]
    return Report(
        html=_document(title, join(body, "\n")),
        title=title,
        material=material,
        plan=planned,
        figures=tuple(drawings.drawn),
        not_drawn=dict(drawings.refused),
        doubts=tuple(doubts),
    )


def is_report(path: Path) -> bool:
    """Whether a file is a page that `build` made, and may so be replaced by another."""
    try:
        with path.open("rb") as stream:
            return _MARK.encode() in stream.read(2000)
    except OSError:
        return False


def check_target(path: Path, *, force: bool) -> None:
    """Raise UsageError unless a report may be written to `path`."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out {str(path)!r} must end in .html.")
    if path.is_dir():
        raise UsageError(f"--out {str(path)!r} is a folder; name a file in it.")
    if path.exists() and not force and not is_report(path):
        raise UsageError(f"{path} exists and is no report of ours; --force overwrites it.")


def _doubts(material: Material, planned: Plan) -> list[str]:
    said = []
    if not material.trusted:
        said.append(f"the fit is not trustworthy: {material.fitted.status.message}")
    elif not planned.trusted and planned.advice is not None:
        said.append(f"the plan is {planned.advice.status.message}")
    return said


def _warning(doubts: Sequence[str]) -> Markup:
    if not doubts:
        return Markup("")
    said = [paragraph(f"{d[0].upper()}{d[1:]}.") for d in doubts]
    said.append(paragraph("Everything below is to be read with that in mind; numbers may change with more runs."))
    return warning("not to be relied upon", *said)


def _in_short(material: Material, planned: Plan) -> Markup:
    fitted, items = material.fitted, []
    if told := headline(planned):
        items.append(" ".join(told))
    quality = f"{format_count(fitted.rows)} runs; "
    if fitted.law.quantity == "loss":
        quality += f"they scatter about the law by {percent(fitted.noise)} of the loss"
        if fitted.seed_noise is not None:
            quality += f" ({percent(fitted.seed_noise)} between seeds)"
    else:
        quality += f"a = {fitted.params['a']:.4g}" if "a" in fitted.params else fitted.status.message
    if fitted.holdout is not None and fitted.holdout.mape is not None:
        quality += f"; held-out runs are predicted with a mean error of {percent(fitted.holdout.mape)}"
    items.append(f"{quality}.")
    open_questions = len(fitted.identifiability) + len(fitted.flags)
    if open_questions:
        link = element("a", "what is not determined", href="#limits")
        count = "one remark" if open_questions == 1 else f"{open_questions} remarks"
        items.append(join([f"The fit carries {count}; see ", link, "."]))
    return element("div", element("h2", "In short"), bullets(items), class_="short")


def _question(material: Material) -> Markup:
    fraction_law = material.fitted.law.quantity == "fraction"
    about = (
        "Which share of the training tokens should be trained with quantized weights?"
        if fraction_law
        else "At which bit width, with how many parameters and tokens, and from which token on with quantized weights, "
        "should a model be trained; and which loss will come of it?"
    )
    terms = [
        ("N", "parameters of the model"),
        ("D", "training tokens in all: those in full precision, then those with quantized weights"),
        ("f", "QAT fraction: the share of D with quantized weights (quantization-aware training)"),
        ("bits", "bits per weight while quantized; embeddings may keep more"),
        ("S", "tokens per parameter byte, D / (N · bits / 8)"),
        ("loss", "mean negative log likelihood on held-out text, in nats per token; lower is better"),
    ]
    rows = join([join([element("dt", t), element("dd", d)]) for t, d in terms], "\n")
    return section(
        "question",
        "The question",
        paragraph(
            "A model whose weights will be stored in few bits can be trained in full precision first and with "
            "quantized weights after that. Switch too late, and it never learns to live with its rounding; switch too "
            "early, and tokens are spent where they teach less."
        ),
        paragraph(
            about,
            "Small runs were trained at several sizes, budgets, bit widths and splits; a law fitted to their losses "
            "answers for the settings between them, with intervals.",
        ),
        element("dl", rows),
        paragraph("On a narrow screen, tables and figures scroll sideways in their frames.", class_="note sideways"),
    )


def _document(title: str, body: Markup) -> str:
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'{_MARK}{escape(__version__)}">',
            '<meta name="referrer" content="no-referrer">',
            # An empty icon: a browser asks the server for one otherwise.
            '<link rel="icon" href="data:,">',
            f"<title>{escape(title)}</title>",
            f"<style>{CSS}</style>",
            "</head>",
            "<body>",
            f"<main>\n{body}\n</main>",
            "</body>",
            "</html>",
            "",
        ]
    )
