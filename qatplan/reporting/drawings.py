"""The figures of a report, each drawn once, numbered in the order of the page; what cannot be drawn says why."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from qatplan.errors import QatplanError
from qatplan.figures.make import Request, draw
from qatplan.planning.recommend import Recommendation
from qatplan.reporting.material import Material
from qatplan.reporting.question import Answer, options
from qatplan.reporting.svg import inline

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


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure with its number and caption, or the reason why there is none."""

    kind: str
    caption: str
    number: int = 0
    svg: str = ""
    command: str = ""
    """The command line that draws it."""
    refused: str = ""


def drawings(kinds: Sequence[str], material: Material, answer: Answer) -> dict[str, Drawing]:
    """The figures by their kind, in order."""
    made: dict[str, Drawing] = {}
    for kind in kinds:
        number = 1 + sum(not d.refused for d in made.values())
        made[kind] = _drawing(kind, number, material, answer)
    return made


def _drawing(kind: str, number: int, material: Material, answer: Answer) -> Drawing:
    fitted, request = material.fitted, _request(kind, material, answer)
    try:
        # Curves of losses can be shown without a law, and a law of fractions has none to show.
        law = None if kind == "loss-curves" and fitted.law.quantity != "loss" else fitted
        made = draw(kind, fitted=law, table=material.table, request=request)
    except QatplanError as error:
        return Drawing(kind=kind, caption=CAPTIONS[kind], refused=str(error))
    svg = inline(made.figure, prefix=f"{kind}-", label=" ".join([made.title, *made.notes]))
    command = _command(kind, material, request)
    return Drawing(kind=kind, caption=CAPTIONS[kind], number=number, svg=svg, command=command)


def _request(kind: str, material: Material, answer: Answer) -> Request:
    advice = answer.advice
    if not isinstance(advice, Recommendation) or kind not in ("contours", "frontier"):
        return Request()
    choice = advice.choice.plan
    if kind == "frontier":
        return Request(tokens=choice.tokens, bits=answer.question.bits)
    outside = choice.tokens > material.fitted.ranges.get("d_total", (0.0, math.inf))[1]
    return Request(params=choice.n, bits=(choice.bits,), tokens=choice.tokens if outside else None)


def _command(kind: str, material: Material, request: Request) -> str:
    runs = [] if kind == "parameters" else material.run_options
    return shlex.join(["qatplan", "plot", kind, material.fit_name, *runs, *options(request), "--out", f"{kind}.svg"])
