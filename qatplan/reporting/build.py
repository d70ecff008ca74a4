"""From a fit, its runs and a question to the finished page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qatplan import __version__
from qatplan.planning.recommend import Recommendation
from qatplan.reporting import extras, provenance
from qatplan.reporting.drawings import Drawing, drawings
from qatplan.reporting.formula import mathml
from qatplan.reporting.material import Material
from qatplan.reporting.question import Answer, Question, answer
from qatplan.storage import atomic
from qatplan.wording.fit import diagnostics_sections, fit_sections
from qatplan.wording.html import environment
from qatplan.wording.numbers import PAGE
from qatplan.wording.plan import plan_sections

GENERATOR = "qatplan report"
CONTENTS = {
    "question": "Question", "runs": "Runs", "law": "Law", "curves": "Data", "plan": "Plan", "limits": "Limits",
    "provenance": "Provenance",
}  # fmt: skip
_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True, kw_only=True)
class Report:
    """A finished page and what it says."""

    def __repr__(self) -> str:
        return f"Report({self.title!r}, {len(self.html):,} characters, {len(self.figures)} figures)"

    html: str
    title: str
    material: Material
    answer: Answer
    drawings: dict[str, Drawing]
    doubts: tuple[str, ...]
    """Why the page must not be relied upon; empty for a good fit and plan."""

    @property
    def figures(self) -> tuple[str, ...]:
        """Kinds of figures, in order."""
        return tuple(kind for kind, drawing in self.drawings.items() if not drawing.refused)

    @property
    def not_drawn(self) -> dict[str, str]:
        """Figures that could not be drawn, and why."""
        return {kind: drawing.refused for kind, drawing in self.drawings.items() if drawing.refused}

    @property
    def remarks(self) -> list[str]:
        """What a person should know about the sources of the page."""
        material = self.material
        remarks = [f"no figure of {kind}: {reason}" for kind, reason in self.not_drawn.items()]
        if material.exact is False:
            remarks.insert(0, "remark: these runs are not exactly those that the fit was made from.")
        if material.table is None:
            missing = "the runs were not found; give them with --runs to see the curves against the data"
            remarks.insert(0, f"{material.remark or missing}.")
        elif material.found:
            remarks.insert(0, material.remark)
        return remarks

    def as_dict(self) -> dict[str, Any]:
        """For JSON: what the page holds, and the plan in full."""
        fitted, advice = self.material.fitted, self.answer.advice
        return {
            "title": self.title, "law": fitted.law.name, "status": str(fitted.status),
            "status_message": fitted.status.message, "doubts": list(self.doubts), "rows": fitted.rows,
            "runs": list(self.material.run_names), "runs_are_those_of_the_fit": self.material.exact,
            "figures": list(self.figures), "not_drawn": self.not_drawn, "sections": list(CONTENTS),
            "plan": None if advice is None else advice.as_dict(), "no_plan_because": self.answer.reason,
            "fit_sha256": self.material.fit_digest,
        }  # fmt: skip

    def save(self, path: Path) -> None:
        """Write the page, whole or not at all."""
        atomic.write_bytes(path, self.html.encode("utf-8"))


def page(material: Material, question: Question | None = None) -> Report:
    """The report of a fit and its runs.

    Raises UsageError or DataError for runs or budgets that cannot be used. A fit or a plan that is not trustworthy gets
    its page, which says so first; `doubts` then holds why.
    """
    question = question or Question()
    answered = answer(material, question)
    fitted, doubts = material.fitted, _doubts(material, answered)
    drawn = drawings(_kinds(material, answered), material, answered)
    diagnostics = diagnostics_sections(fitted, PAGE)
    law = [part for part in fit_sections(fitted, details=True, numbers=PAGE) if part not in diagnostics]
    plan = [] if answered.advice is None else plan_sections(answered.advice, details=True)
    title = f"{fitted.law.title}: fitted on {fitted.rows} runs"
    html = environment(_TEMPLATES).get_template("page.html").render(
        title=title,
        generator=f"{GENERATOR} {__version__}",
        version=__version__,
        contents=CONTENTS,
        doubts=[f"{doubt[0].upper()}{doubt[1:]}." for doubt in doubts],
        short=[*plan[:1], *fit_sections(fitted, numbers=PAGE)[1:2]],
        remarks=len(fitted.identifiability) + len(fitted.flags),
        fitted=fitted,
        formula=mathml(fitted.law),
        runs=extras.runs_sections(material),
        law=law,
        terms=extras.terms(material, answered),
        diagnostics=diagnostics,
        have_runs=material.table is not None,
        answer=answered,
        plan=plan,
        unbounded=_unbounded(answered),
        drawings=drawn,
        limits=extras.limits(material, {kind: d.refused for kind, d in drawn.items() if d.refused}),
        facts=provenance.facts(material),
        commands=provenance.commands(material, question, answered, drawn.values()),
    )  # fmt: skip
    return Report(html=html, title=title, material=material, answer=answered, drawings=drawn, doubts=tuple(doubts))


def is_report(path: Path) -> bool:
    """Whether a file is a page of ours, and may so be replaced by another."""
    try:
        with path.open("rb") as stream:
            return f'<meta name="generator" content="{GENERATOR} '.encode() in stream.read(2000)
    except OSError:
        return False


def _kinds(material: Material, answered: Answer) -> list[str]:
    """The figures that suit the fit, in the order of the page."""
    law, have_runs, advice = material.fitted.law, material.table is not None, answered.advice
    loss = law.quantity == "loss"
    suits = {
        "parameters": len(law.parameters()) > 1, "loss-curves": have_runs,
        "residuals": loss and material.used is not None, "fraction": law.sees_fraction or not loss or have_runs,
        "contours": isinstance(advice, Recommendation) and bool(advice.choice.plan.d_qat and advice.rules),
        "frontier": isinstance(advice, Recommendation) or (not advice and loss and "bits" in material.fitted.ranges),
    }  # fmt: skip
    return [kind for kind, suited in suits.items() if suited]


def _doubts(material: Material, answered: Answer) -> list[str]:
    if not material.trusted:
        return [f"the fit is not trustworthy: {material.fitted.status.message}"]
    if answered.advice is not None and not answered.trusted:
        return [f"the plan is {answered.advice.status.message}"]
    return []


def _unbounded(answered: Answer) -> bool:
    """Whether bit widths were compared without a bound on memory."""
    advice = answered.advice
    return isinstance(advice, Recommendation) and advice.problem.budgets.memory is None and bool(advice.alternatives)
