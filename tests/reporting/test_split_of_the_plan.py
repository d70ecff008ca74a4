"""The plan of a page is held against measured curves where a fit of them is given, as `recommend --split` is."""

from __future__ import annotations

from pathlib import Path

from qatplan.laws import FittedLaw
from qatplan.planning.recommend import Recommendation
from qatplan.reporting.material import gather
from qatplan.reporting.question import Question, answer

FITS = Path(__file__).parents[2] / "fits"
QUESTION = Question(params=50e3, tokens=4e6, bits=(4.0,))


def test_a_fit_of_measured_curves_answers_for_the_split_of_the_page() -> None:
    fitted = FittedLaw.read(FITS / "qat-loss.json")
    surface = FittedLaw.read(FITS / "fraction-surface.json")
    material = gather(fitted, split=surface, split_path=Path("curves.json"))
    found = answer(material, QUESTION)
    assert isinstance(found.advice, Recommendation)
    assert found.advice.split is not None
    assert "--split curves.json" in found.command(material)
    alone = gather(fitted)
    plain = answer(alone, QUESTION)
    assert isinstance(plain.advice, Recommendation)
    assert plain.advice.split is None
    assert "--split" not in plain.command(alone)
    assert plain.advice.choice.plan.fraction > 2 * found.advice.choice.plan.fraction
