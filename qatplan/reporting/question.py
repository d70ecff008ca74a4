"""What a report's plan is asked for, and the plan: for given budgets, or for the setting that the runs know best."""

from __future__ import annotations

import math
import shlex
from collections import defaultdict
from dataclasses import dataclass, replace

from qatplan import runs
from qatplan.errors import UsageError
from qatplan.figures.make import Request
from qatplan.models.costs import Training
from qatplan.planning.fraction_only import FractionAdvice
from qatplan.planning.plan import COLUMNS, plan
from qatplan.planning.problem import Problem
from qatplan.planning.recommend import Recommendation, default_bits
from qatplan.planning.request import Budgets, Serving
from qatplan.reporting.material import Material
from qatplan.units import format_bytes, format_count


@dataclass(frozen=True, kw_only=True)
class Question:
    """Budgets, as in `qatplan recommend`; what is None is filled in from the runs or from the fitted range."""

    params: float | None = None
    tokens: float | None = None
    flops: float | None = None
    memory: float | None = None
    """Bytes at inference."""
    bits: tuple[float, ...] | None = None
    context: int | None = None
    vocabulary: float | None = None
    sequence: int | None = None

    @property
    def empty(self) -> bool:
        """True where no budget was given."""
        return all(v is None for v in (self.params, self.tokens, self.flops, self.memory))

    @property
    def sentence(self) -> str:
        """What was asked for, in words."""
        parts = {
            "params": lambda v: f"{format_count(v)} parameters",
            "tokens": lambda v: f"{format_count(v)} training tokens",
            "flops": lambda v: f"{v:.3g} training FLOPs",
            "memory": lambda v: f"{format_bytes(v)} of memory at inference",
            "bits": lambda v: f"bit widths {', '.join(f'{b:g}' for b in v)}",
        }
        known = [word(value) for name, word in parts.items() if (value := getattr(self, name)) is not None]
        return f"Asked: {'; '.join(known)}."


def options(asked: Question | Request) -> list[str]:
    """What is asked of a plan or a figure, as options of a command line."""
    given: list[str] = []
    for name in ("params", "tokens", "flops", "memory", "context", "vocabulary", "sequence"):
        value = getattr(asked, name, None)
        if value is not None:
            given += [f"--{name}", str(int(value)) if float(value).is_integer() else repr(float(value))]
    return given + (["--bits", ",".join(f"{b:g}" for b in asked.bits)] if asked.bits else [])


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The plan of a report, or why there is none."""

    question: Question
    """The full question, everything filled in."""
    why: tuple[str, ...] = ()
    """Where its numbers come from, in sentences; empty where all were given."""
    advice: Recommendation | FractionAdvice | None = None
    reason: str | None = None

    @property
    def trusted(self) -> bool:
        """False for a plan that must not be relied upon."""
        return self.advice is None or self.advice.status.trustworthy

    def command(self, material: Material) -> str:
        """The `qatplan recommend` that gives the same plan."""
        known = material.run_options if isinstance(self.advice, Recommendation) else []
        return shlex.join(["qatplan", "recommend", material.fit_name, *options(self.question), *known])


def answer(material: Material, question: Question) -> Answer:
    """The plan for a question.

    Raises UsageError where the budgets that were given allow no plan. Where none were given and the law cannot plan,
    the answer says why instead.
    """
    try:
        full, why = _complete(material, question)
        # A law of the fraction ranks no widths and shows the first: 4 bits where nobody asked for others.
        widths = question.bits or tuple(sorted(full.bits or _widths(material), key=lambda b: (b != 4.0, b)))
        advice = _advice(material, replace(full, bits=widths))
    except UsageError as error:
        if not question.empty:
            raise
        return Answer(question=question, reason=str(error))
    return Answer(question=full, why=why, advice=advice)


def _advice(material: Material, question: Question) -> Recommendation | FractionAdvice:
    problem = Problem(
        budgets=Budgets(params=question.params, tokens=question.tokens, flops=question.flops, memory=question.memory),
        bits=question.bits,
        vocabulary=question.vocabulary,
        serving=Serving() if question.context is None else Serving(context=question.context),
        training=Training() if question.sequence is None else Training(sequence=question.sequence),
    )
    evidence = [] if material.table is None else material.table.select(list(COLUMNS)).to_pylist()
    return plan(material.fitted, problem, split=material.split, runs=evidence)


def _complete(material: Material, question: Question) -> tuple[Question, tuple[str, ...]]:
    """The question with its gaps filled, and sentences about what filled them."""
    why = []
    no_size = question.params is None and question.memory is None and question.flops is None
    no_tokens = question.tokens is None and question.flops is None
    if no_size or no_tokens:
        n, tokens, where = _setting(material)
        filled = [f"{format_count(n)} parameters"] if no_size else []
        filled += [f"{format_count(tokens)} tokens"] if no_tokens else []
        question = replace(
            question, params=n if no_size else question.params, tokens=tokens if no_tokens else question.tokens
        )
        why.append(f"{' and '.join(filled)} are {where}.")
    shape = []
    lengths = set(material.number("sequence"))
    if question.sequence is None and len(lengths) == 1:
        question = replace(question, sequence=int(*lengths))
        shape.append(f"sequences of {question.sequence} tokens")
        if question.context is None:
            question = replace(question, context=question.sequence)
            shape.append("the same context")
    entries = _vocabulary(material)
    if question.vocabulary is None and entries is not None:
        question = replace(question, vocabulary=entries)
        shape.append(f"a vocabulary of {entries:,.0f}")
    if shape:
        why.append(f"The model's shape follows the runs: {', '.join(shape)}.")
    return replace(question, bits=question.bits or _widths(material)), tuple(why)


def _setting(material: Material) -> tuple[float, float, str]:
    """(parameters, tokens, how they were found): the most measured setting, or the middle of the fitted range."""
    ranges = material.fitted.ranges
    # Tokens are rounded to whole steps of both phases; two digits make one budget of them.
    points: defaultdict[tuple[float, float], set[tuple[float, float]]] = defaultdict(set)
    budgets: defaultdict[tuple[float, float], set[float]] = defaultdict(set)
    if material.used is not None:
        column = runs.columns(material.used, ["n_total", "d_total", "bits", "d_qat"])
        for n, d, bits, qat in zip(*(column[c].tolist() for c in column), strict=True):
            if not math.isnan(bits):
                points[n, float(f"{d:.2g}")].add((bits, round(qat / d, 2)))
                budgets[n, float(f"{d:.2g}")].add(d)
    if points:
        chosen = max(points, key=lambda key: (len(points[key]), key[0] * key[1]))
        n, widths = chosen[0], [bits for bits, _ in points[chosen]]
        ends = (min(budgets[chosen]), max(budgets[chosen]))
        d = next((d for d in ends if _inside(material, n, d, widths)), ends[0])
        return n, d, f"the setting that was measured most closely ({len(points[chosen])} points of bits and fraction)"
    if "n" not in ranges or "d_total" not in ranges:
        raise UsageError("the fit records no ranges, so a plan needs --params and --tokens.")
    n, d = (float(f"{math.sqrt(low * high):.3g}") for low, high in (ranges["n"], ranges["d_total"]))
    return n, d, "the middle of the fitted range"


def _inside(material: Material, n: float, d: float, widths: list[float]) -> bool:
    """Whether a setting lies in the fitted ranges at its extreme bit widths."""
    ranges = material.fitted.ranges
    tests = {"d_total": [d], "s_total": [d / (n * bits / 8.0) for bits in widths]}
    return all(ranges[k][0] <= min(v) and max(v) <= ranges[k][1] for k, v in tests.items() if k in ranges)


def _widths(material: Material) -> tuple[float, ...]:
    """The bit widths up to 8 that the runs have; without runs, the planner's own choice within the fitted range."""
    seen = [] if material.used is None else material.number("bits", material.used)
    return tuple(sorted({b for b in seen if 1 <= b <= 8})) or default_bits(material.fitted)


def _vocabulary(material: Material) -> float | None:
    """Entries of the embedding table, where all runs agree on it."""
    if material.table is None:
        return None
    column = runs.columns(material.table, ["n_embedding", "width"])
    entries = {e / w for e, w in zip(column["n_embedding"].tolist(), column["width"].tolist(), strict=True)}
    only = next(iter(entries))
    return only if len(entries) == 1 and math.isfinite(only) and only.is_integer() else None
