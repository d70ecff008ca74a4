"""Where every number comes from: digests, versions, and the command lines that make it all again."""

from __future__ import annotations

import shlex
from typing import Any

from qatplan import __version__
from qatplan.laws.fit_parts import plain
from qatplan.report.drawings import Drawings
from qatplan.report.markup import (
    Markup,
    element,
    join,
    paragraph,
    section,
    shell,
)
from qatplan.report.material import Material
from qatplan.report.question import Ask, Plan

_SHOWN = 12


def provenance_section(material: Material, ask: Ask, plan: Plan, drawings: Drawings) -> Markup:
    """Facts as a list of terms, then the commands in the order of the work."""
    facts = [pair for pair in _facts(material) if pair[1]]
    terms = join([join([element("dt", name), element("dd", value)]) for name, value in facts], "\n")
    return section(
        "provenance",
        "Provenance",
        element("dl", terms),
        element("h3", "To make it again"),
        paragraph(
            "Run from the folder from which the fit was made, or give the paths as they are on your machine.",
            class_="note",
        ),
        shell(commands(material, ask, plan, drawings)),
        paragraph(
            f"This page was made by qatplan {__version__}; the same files give the same page, byte by byte.",
            class_="note",
        ),
    )


def commands(material: Material, ask: Ask, plan: Plan, drawings: Drawings) -> list[str]:
    """Command lines that reproduce the fit, the plan, the figures and this page."""
    made = plain(material.fitted.provenance) or {}
    lines = []
    if material.run_names:
        lines.append(shlex.join(["qatplan", "runs", *material.run_names]))
    if made.get("command"):
        lines.append(str(made["command"]))
    if plan.advice is not None:
        lines.append(plan.command(material))
    lines += drawings.commands
    named = [] if material.found else [w for name in material.run_names for w in ("--runs", name)]
    page = ["qatplan", "report", material.fit_name, *named, *ask.options(), "--out", "report.html"]
    return [*lines, shlex.join(page)]


def _facts(material: Material) -> list[tuple[str, Any]]:
    made = plain(material.fitted.provenance) or {}
    facts: list[tuple[str, Any]] = [
        ("Fit", join([material.fit_name, element("br"), "SHA-256 ", element("code", material.fit_digest)])),
        ("Rows fitted", _digest(made.get("rows_digest"))),
        ("Rows chosen by", made.get("row_expression")),
        ("Made from", ", ".join(str(s) for s in made.get("sources") or [])),
        ("Seed", made.get("seed") if made.get("seed") is None else str(made["seed"])),
        ("Fitted with", ", ".join(f"{k} {made[k]}" for k in ("qatplan", "python", "numpy", "scipy") if made.get(k))),
    ]
    if material.table is not None:
        from qatplan import runs

        facts += [
            ("Runs shown", ", ".join(material.run_names)),
            ("All runs", _digest(runs.digest(material.table))),
            ("Sweep", _some(material, "sweep_id")),
            ("Text", join([_some(material, "corpus"), _digest_list(material)], " ")),
            ("Code version of the runs", _some(material, "code_version")),
            ("Trained with", ", ".join(f"PyTorch {v}" for v in material.words("torch_version"))),
            ("Trained on", ", ".join([*material.words("device"), *material.words("backend")])),
            ("Last run finished", max(material.words("finished_at"), default=None)),
        ]
    return facts


def _digest(value: object) -> Markup | None:
    return None if value is None else join(["SHA-256 ", element("code", value)])


def _digest_list(material: Material) -> Markup | None:
    known = material.words("corpus_digest")
    return join([element("code", d) for d in known[:_SHOWN]], " ") if known else None


def _some(material: Material, column: str) -> str:
    known = material.words(column)
    more = len(known) - _SHOWN
    return ", ".join(known[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
