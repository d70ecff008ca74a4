"""No word of a figure reaches beyond its edge: every kind, from the shipped fits and runs."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from qatplan import runs
from qatplan.figures import make
from qatplan.figures.style import applied
from qatplan.laws import FittedLaw

SHIPPED = Path(__file__).parents[2]


def cut(figure: Figure) -> list[str]:
    """Texts that reach beyond the figure's edge, by more than a pixel."""
    figure.set_dpi(200)  # that of the files; at fewer dots hinting sets small type wider
    with applied():
        figure.draw_without_rendering()
    renderer, edge = figure.canvas.get_renderer(), figure.bbox  # type: ignore[attr-defined]
    # Matplotlib keeps labels for ticks outside the limits, which it does not draw.
    undrawn = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            labels = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=False)
            undrawn |= {id(label) for place, label in labels if not low <= place <= high}
    beyond = []
    for text in figure.findobj(lambda artist: isinstance(artist, Text) and artist.get_visible()):
        if id(text) in undrawn or not text.get_text().strip():
            continue
        box = text.get_window_extent(renderer)
        if box.x0 < edge.x0 - 1 or box.x1 > edge.x1 + 1 or box.y0 < edge.y0 - 1 or box.y1 > edge.y1 + 1:
            beyond.append(text.get_text())
    return beyond


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return runs.read([SHIPPED / "data" / "main" / "runs.parquet"])


@pytest.mark.parametrize(
    ("kind", "fit", "request_"),
    [
        ("loss-curves", "qat-loss", {}),
        ("loss-curves", None, {"relative": True, "layout": "bits"}),
        ("loss-curves", None, {"training": True, "params": 50120.0, "tokens": 2e6}),
        ("fraction", "qat-fraction", {}),
        ("fraction", "qat-loss", {}),
        ("contours", "qat-loss", {}),
        ("frontier", "qat-loss", {}),
        ("residuals", "qat-loss", {}),
        ("parameters", "qat-loss", {}),
        ("parameters", "chinchilla", {}),
        ("split", "fraction-surface", {}),
    ],
)
def test_no_text_is_cut(kind: str, fit: str | None, request_: dict[str, object], table: pa.Table) -> None:
    fitted = None if fit is None else FittedLaw.read(SHIPPED / "fits" / f"{fit}.json")
    made = make.draw(kind, fitted=fitted, table=table, request=make.Request(**request_))  # type: ignore[arg-type]
    assert cut(made.figure) == []


def test_a_cut_word_is_found() -> None:
    """The check itself can fail."""
    figure = Figure(figsize=(1, 1))
    FigureCanvasAgg(figure)
    figure.text(0.5, 0.5, "much longer than an inch of paper")
    assert cut(figure) == ["much longer than an inch of paper"]
