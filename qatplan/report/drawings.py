"""The figures of a report, each drawn once, numbered in the order of the page; what cannot be drawn says why."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qatplan.errors import QatplanError
from qatplan.planning.recommend import Recommendation
from qatplan.report.markup import Markup, paragraph
from qatplan.report.material import Material
from qatplan.report.question import Plan
from qatplan.report.svg import framed, inline

if TYPE_CHECKING:
    from qatplan.figures.make import Request
    from qatplan.figures.measured import Run
    from qatplan.fitting.curves import MeasuredOptimum

CAPTIONS: dict[str, str] = {
    "loss-curves": "Measured losses (points) against the share of tokens trained with quantized weights, and the "
    "fitted law (lines). The bottom of each curve is the split that pays. Points off the band of their line are what "
    "the law does not explain.",
    "residuals": "What the law leaves unexplained, run by run. A law that holds leaves points scattered evenly about "
    "zero; a slope or a step is a part of the truth that it misses.",
    "fraction": "The best share of quantized training against tokens per parameter byte: as measured, as the fit has "
    "it, and as the published law has it.",
    "contours": "Predicted loss over the tokens of the two phases, for one model and bit width. The path of the "
    "optimum says how to split a growing budget.",
    "frontier": "The lowest loss that fits in a given memory for the weights, and the bit width that reaches it.",
    "parameters": "The parameters with their intervals, relative to the estimate. Long bars are parameters that the "
    "runs hardly determine.",
}


@dataclass(kw_only=True)
class Drawings:
    """Draws figures for one page; the only thing here that changes, since figures are numbered as they come."""

    material: Material
    plan: Plan
    drawn: list[str] = field(default_factory=list)
    """Kinds in the order of their numbers."""
    refused: dict[str, str] = field(default_factory=dict)
    """Kinds that could not be drawn, and why."""
    commands: list[str] = field(default_factory=list)

    def figure(self, kind: str) -> Markup:
        """The figure of `kind` with its number and caption, or a sentence saying why there is none."""
        from qatplan.figures.make import make

        fitted, request = self.material.fitted, self._request(kind)
        try:
            runs = self._runs(kind)
            law = None if kind == "loss-curves" and fitted.law.quantity != "loss" else fitted
            made = make(kind, runs=runs, fitted=law, optima=self._optima(kind), request=request)
            label = " ".join([made.title, *made.notes])
            drawing = inline(made.figure, prefix=f"{kind}-", label=label)
        except QatplanError as error:
            self.refused[kind] = str(error)
            return paragraph(f"No figure of {kind.replace('-', ' ')} here: {error}", class_="note")
        self.drawn.append(kind)
        self.commands.append(self._command(kind, request))
        return framed(drawing, len(self.drawn), CAPTIONS[kind], f"figure-{kind}")

    def figures(self, kinds: Sequence[str]) -> list[Markup]:
        """Several, in order."""
        return [self.figure(kind) for kind in kinds]

    def _runs(self, kind: str) -> tuple[Run, ...] | None:
        from qatplan.figures.measured import runs_of

        used = kind == "residuals" and self.material.fitted.law.quantity == "loss"
        table = self.material.used if used else self.material.table
        return None if table is None else runs_of(table, self.material.fitted.n_convention)

    def _optima(self, kind: str) -> list[MeasuredOptimum]:
        if kind != "fraction":
            return []
        from qatplan.fitting.curves import measured_optima, recorded_optima

        if self.material.table is None:
            return recorded_optima(self.material.fitted)
        return measured_optima(self.material.table, n=self.material.fitted.n_convention)

    def _request(self, kind: str) -> Request:
        from qatplan.figures.make import Request

        advice = self.plan.advice
        if not isinstance(advice, Recommendation) or kind not in ("contours", "frontier"):
            return Request()
        choice = advice.choice.plan
        if kind == "frontier":
            return Request(tokens=choice.tokens, bits=advice.problem.bits)
        ends = self.material.fitted.ranges.get("d_total", (0.0, math.inf))
        outside = choice.tokens > ends[1]
        return Request(params=choice.n, bits=(choice.bits,), tokens=choice.tokens if outside else None)

    def _command(self, kind: str, request: Request) -> str:
        parts = ["qatplan", "plot", kind, self.material.fit_name]
        if kind != "parameters":
            parts += [word for name in self.material.run_names for word in ("--runs", name)]
        for name in ("params", "tokens"):
            value = getattr(request, name)
            if value is not None:
                parts += [f"--{name}", f"{value:.12g}"]
        if request.bits is not None:
            parts += ["--bits", ",".join(f"{b:g}" for b in request.bits)]
        return shlex.join([*parts, "--out", f"{kind}.svg"])
