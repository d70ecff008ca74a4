"""Where every number comes from: digests, versions, and the command lines that make it all again."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from qatplan import runs
from qatplan.reporting.drawings import Drawing
from qatplan.reporting.material import Material
from qatplan.reporting.question import Answer, Question, options

_SHOWN = 12


def facts(material: Material) -> list[tuple[str, str, tuple[str, ...]]]:
    """(term, words, digests) of everything that is known."""
    made = material.fitted.provenance
    found: list[tuple[str, str, tuple[str, ...]]] = [("Fit", material.fit_name, (material.fit_digest or "",))]
    if made is not None:
        versions = ", ".join(f"{k} {getattr(made, k)}" for k in ("qatplan", "python", "numpy", "scipy"))
        found += [
            ("Rows fitted", "", (made.rows_digest or "",)),
            ("Rows chosen by", made.row_expression or "", ()),
            ("Made from", ", ".join(made.sources), ()),
            ("Seed", str(made.seed), ()),
            ("Fitted with", versions, ()),
        ]
    if material.table is not None:
        found += [
            ("Runs shown", ", ".join(material.run_names), ()),
            ("All runs", "", (runs.digest(material.table),)),
            ("Sweep", _some(material, "sweep_id"), ()),
            ("Text", _some(material, "corpus"), tuple(material.words("corpus_digest")[:_SHOWN])),
            ("Code version of the runs", _some(material, "code_version"), ()),
            ("Trained with", ", ".join(f"PyTorch {v}" for v in material.words("torch_version")), ()),
            ("Trained on", ", ".join([*material.words("device"), *material.words("backend")]), ()),
            ("Last run finished", max(material.words("finished_at"), default=""), ()),
        ]
    return [(term, words, (*filter(None, digests),)) for term, words, digests in found if words or any(digests)]


def commands(material: Material, question: Question, answer: Answer, drawn: Iterable[Drawing]) -> list[str]:
    """Command lines that reproduce the fit, the plan, the figures and the page, in the order of the work."""
    made = material.fitted.provenance
    lines = [shlex.join(["qatplan", "runs", *material.run_names])] if material.run_names else []
    lines += [made.command] if made is not None and made.command else []
    lines += [answer.command(material)] if answer.advice is not None else []
    lines += [drawing.command for drawing in drawn if drawing.command]
    named = [] if material.found else material.run_options
    page = ["qatplan", "report", material.fit_name, *named, *options(question), "--out", "report.html"]
    return [*lines, shlex.join(page)]


def _some(material: Material, column: str) -> str:
    known = material.words(column)
    more = len(known) - _SHOWN
    return ", ".join(known[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
