"""Planning problems from one flat list of fields, and what plans say on unwrapped lines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

from qatplan.models.costs import Training
from qatplan.planning.fraction_only import FractionAdvice
from qatplan.planning.problem import Problem
from qatplan.planning.recommend import Recommendation
from qatplan.planning.request import Budgets, Serving
from qatplan.wording.plan import plan_sections
from qatplan.wording.sections import Section
from qatplan.wording.text import to_text

PARTS = {"budgets": Budgets, "serving": Serving, "training": Training}


def problem(base: Problem | None = None, **changes: Any) -> Problem:
    """A problem, or `base` with changes; each field goes to the part that has it."""
    whole: dict[str, Any] = {}
    for name, kind in PARTS.items():
        own = {field.name: changes.pop(field.name) for field in fields(kind) if field.name in changes}
        whole[name] = kind(**own) if base is None else replace(getattr(base, name), **own)
    return Problem(**whole, **changes) if base is None else replace(base, **whole, **changes)


def words(sections: Iterable[Section]) -> str:
    """What sections say, each paragraph on one line."""
    return to_text(sections, 10_000)


def details(advice: Recommendation | FractionAdvice) -> str:
    """All that a plan says."""
    return words(plan_sections(advice, details=True))
