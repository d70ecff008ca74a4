"""The plan that a report shows: for the budgets asked for, or for the setting that the runs know best."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from typing import Any

from qatplan.errors import UsageError
from qatplan.laws.qat_fraction import QatFraction
from qatplan.planning.fraction_only import FractionAdvice, advise
from qatplan.planning.problem import Problem
from qatplan.planning.recommend import (
    RUN_COLUMNS,
    Recommendation,
    default_bits,
    recommend,
)
from qatplan.planning.request import Budgets, Serving, Training
from qatplan.report.material import Material
from qatplan.units import format_bytes, format_count


@dataclass(frozen=True, kw_only=True)
class Ask:
    """Budgets, as in `qatplan recommend`; what is None is filled in from the runs or from the fitted range."""

    params: float | None = None
    tokens: float | None = None
    flops: float | None = None
    memory: float | None = None
    bits: tuple[float, ...] | None = None
    context: int | None = None
    vocabulary: float | None = None
    sequence: int | None = None

    def options(self) -> list[str]:
        """The same as options of a command line."""
        given: list[str] = []
        for name in ("params", "tokens", "flops", "memory", "context", "vocabulary", "sequence"):
            value = getattr(self, name)
            if value is not None:
                given += [f"--{name}", str(int(value)) if float(value).is_integer() else repr(float(value))]
        return given + (["--bits", ",".join(f"{b:g}" for b in self.bits)] if self.bits else [])

    @property
    def empty(self) -> bool:
        """True where no budget was given."""
        return all(v is None for v in (self.params, self.tokens, self.flops, self.memory))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan of a report, or why there is none."""

    asked: Ask
    """The full question, everything filled in."""
    why: str
    """Where its numbers come from, in a sentence; empty where all were given."""
    advice: Recommendation | FractionAdvice | None = None
    reason: str | None = None

    @property
    def trusted(self) -> bool:
        """False for a plan that must not be relied upon."""
        return self.advice is None or self.advice.status.trustworthy

    def command(self, material: Material) -> str:
        """The `qatplan recommend` that gives the same plan."""
        parts = ["qatplan", "recommend", material.fit_name, *self.asked.options()]
        if isinstance(self.advice, Recommendation):
            parts += [word for name in material.run_names for word in ("--runs", name)]
        return shlex.join(parts)


def plan(material: Material, ask: Ask) -> Plan:
    """The plan for a question.

    Raises UsageError where the budgets that were given allow no plan. Where none were given and the law cannot plan,
    the plan says why instead.
    """
    fit = material.fitted
    try:
        asked, why = _complete(material, ask)
        problem = Problem(
            budgets=Budgets(params=asked.params, tokens=asked.tokens, flops=asked.flops, memory=asked.memory),
            bits=asked.bits or _widths(material),
            vocabulary=asked.vocabulary,
            serving=Serving() if asked.context is None else Serving(context=asked.context),
            training=Training() if asked.sequence is None else Training(sequence=asked.sequence),
        )
        if isinstance(fit.law, QatFraction):
            return Plan(asked=asked, why=why, advice=advise(problem, fit))
        rows: list[dict[str, Any]] = []
        if material.table is not None:
            rows = material.table.select(list(RUN_COLUMNS)).to_pylist()
        return Plan(asked=asked, why=why, advice=recommend(fit, problem, runs=rows))
    except UsageError as error:
        if not ask.empty:
            raise
        return Plan(asked=ask, why="", reason=str(error))


def _complete(material: Material, ask: Ask) -> tuple[Ask, str]:
    """The question with its gaps filled, and a sentence about what filled them."""
    values: dict[str, Any] = dict(vars(ask))
    said = []
    bounded = ask.flops is not None
    if (ask.tokens is None and not bounded) or (ask.params is None and ask.memory is None and not bounded):
        n, tokens, where = _setting(material)
        filled = []
        if ask.params is None and ask.memory is None and not bounded:
            values["params"] = n
            filled.append(f"{format_count(n)} parameters")
        if ask.tokens is None and not bounded:
            values["tokens"] = tokens
            filled.append(f"{format_count(tokens)} tokens")
        said.append(f"{' and '.join(filled)} are {where}")
    values["bits"] = ask.bits or _widths(material)
    shape = []
    if ask.sequence is None and len(set(material.number("sequence"))) == 1:
        values["sequence"] = int(material.number("sequence")[0])
        shape.append(f"sequences of {values['sequence']} tokens")
    if ask.context is None and ask.sequence is None and "sequences" in " ".join(shape):
        values["context"] = values["sequence"]
        shape.append("the same context")
    entries = _vocabulary(material)
    if ask.vocabulary is None and entries is not None:
        values["vocabulary"] = entries
        shape.append(f"a vocabulary of {entries:,.0f}")
    if shape:
        said.append(f"the model's shape follows the runs: {', '.join(shape)}")
    text = "; ".join(said)
    return Ask(**values), f"{text[0].upper()}{text[1:]}." if text else ""


def _setting(material: Material) -> tuple[float, float, str]:
    """(parameters, tokens, how they were found): the most measured setting, or the middle of the fitted range."""
    if material.used is not None:
        from qatplan import runs

        column = runs.columns(material.used, ["n_total", "d_total", "bits", "d_qat"])
        # Tokens are rounded to whole steps of both phases; two digits make one budget of them.
        points: dict[tuple[float, float], set[tuple[float, float]]] = {}
        budgets_of: dict[tuple[float, float], list[float]] = {}
        for n, d, bits, qat in zip(*(column[c].tolist() for c in column), strict=True):
            if not math.isnan(bits):
                key = (n, float(f"{d:.2g}"))
                points.setdefault(key, set()).add((bits, round(qat / d, 2)))
                budgets_of.setdefault(key, []).append(d)
        if points:
            chosen = max(points, key=lambda key: (len(points[key]), key[0] * key[1]))
            widths = [bits for bits, _ in points[chosen]]
            known = (min(budgets_of[chosen]), max(budgets_of[chosen]))
            d = next((d for d in known if _inside(material, chosen[0], d, widths)), known[0])
            count = len(points[chosen])
            return chosen[0], d, f"the setting that was measured most closely ({count} points of bits and fraction)"
    ranges = material.fitted.ranges
    if "n" not in ranges or "d_total" not in ranges:
        raise UsageError("the fit records no ranges, so a plan needs --params and --tokens.")
    n, d = (float(f"{math.sqrt(low * high):.3g}") for low, high in (ranges["n"], ranges["d_total"]))
    return n, d, "the middle of the fitted range"


def _inside(material: Material, n: float, d: float, widths: list[float]) -> bool:
    """Whether a setting lies in the fitted ranges at its extreme bit widths."""
    ranges = material.fitted.ranges
    s_total = [d / (n * bits / 8.0) for bits in widths]
    tests = {"d_total": [d], "s_total": s_total}
    return all(ranges[k][0] <= min(v) and max(v) <= ranges[k][1] for k, v in tests.items() if k in ranges)


def _widths(material: Material) -> tuple[float, ...]:
    """The bit widths up to 8 that the runs have; without runs, the planner's own choice within the fitted range."""
    seen = sorted({b for b in material.number("bits", material.used) if 1 <= b <= 8}) if material.used else []
    return tuple(seen) or default_bits(material.fitted)


def _vocabulary(material: Material) -> float | None:
    """Entries of the embedding table, where all runs agree on it."""
    if material.table is None:
        return None
    from qatplan import runs

    column = runs.columns(material.table, ["n_embedding", "width"])
    entries = {e / w for e, w in zip(column["n_embedding"].tolist(), column["width"].tolist(), strict=True)}
    only = next(iter(entries))
    return only if len(entries) == 1 and math.isfinite(only) and only.is_integer() else None


def budgets(asked: Ask) -> list[str]:
    """What was asked for, in words."""
    said = []
    if asked.params is not None:
        said.append(f"{format_count(asked.params)} parameters")
    if asked.tokens is not None:
        said.append(f"{format_count(asked.tokens)} training tokens")
    if asked.flops is not None:
        said.append(f"{asked.flops:.3g} training FLOPs")
    if asked.memory is not None:
        said.append(f"{format_bytes(asked.memory)} of memory at inference")
    if asked.bits:
        said.append(f"bit widths {', '.join(f'{b:g}' for b in asked.bits)}")
    return said
