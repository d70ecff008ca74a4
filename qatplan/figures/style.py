"""What all figures share: the private style, one look per bit width, titles, and deterministic files.

Every look differs in lightness, marker and line, so that a figure survives a photocopier. Nothing here imports
pyplot or leaves a trace in matplotlib's global state.
"""

from __future__ import annotations

import io
import os
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath

from qatplan import __version__
from qatplan.errors import UsageError
from qatplan.storage import atomic

SUFFIXES = (".svg", ".pdf", ".png")
STYLE_FILE = Path(__file__).with_name("qatplan.mplstyle")
FULL_PRECISION = "#4d4d4d"
INK = "#1a1a1a"
FAINT = "#8c8c8c"
CONTROL: dict[str, Any] = {"color": FULL_PRECISION, "linewidth": 0.8, "linestyle": (0, (4, 2))}
"""The line of full precision."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1.2)), (0, (8, 2)))


@dataclass(frozen=True, kw_only=True)
class Look:
    """How one series is drawn."""

    color: str
    marker: str
    line: Any
    """A matplotlib line style."""

    @property
    def stroke(self) -> dict[str, Any]:
        """Its line, as matplotlib's arguments."""
        return {"color": self.color, "linestyle": self.line}

    @property
    def points(self) -> dict[str, Any]:
        """Its marker alone."""
        return {"color": self.color, "linestyle": "none", "marker": self.marker}

    @property
    def both(self) -> dict[str, Any]:
        """Its line with markers."""
        return {**self.stroke, "marker": self.marker}


# Lightness rises with the bit width (CIE L* 16, 24, 31, 42, 53, 63, 68, 73), so the order can be read in grey.
_PLASMA_POSITION = {1.0: 0.01, 1.58: 0.12, 2.0: 0.23, 3.0: 0.39, 4.0: 0.54, 6.0: 0.67, 8.0: 0.73, 16.0: 0.79}
_BITS_INDEX = {1.0: 0, 1.58: 6, 2.0: 1, 3.0: 2, 4.0: 3, 6.0: 4, 8.0: 5, 16.0: 7}


@contextmanager
def applied() -> Iterator[None]:
    """The private style over matplotlib's own defaults, as a `with` block or a decorator."""
    with matplotlib.style.context(["default", str(STYLE_FILE)]):
        yield


def legend(axes: Axes, entries: Sequence[dict[str, Any]]) -> None:
    """A legend at the right of `axes`; an entry has the properties of a line, `label` among them."""
    handles = [Line2D([], [], **entry) for entry in entries]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.02, 1.02))


def bits_look(bits: float) -> Look:
    """One look per bit width, the same in every figure; not a number (full precision) is a grey dash."""
    if np.isnan(bits):
        return Look(color=FULL_PRECISION, marker="x", line=CONTROL["linestyle"])
    position = float(np.interp(bits, [*_PLASMA_POSITION], [*_PLASMA_POSITION.values()]))
    index = _BITS_INDEX.get(bits, 8 + round(bits * 10) % 2)
    color = to_hex(matplotlib.colormaps["plasma"](position))
    return Look(color=color, marker=MARKERS[index], line=DASHES[index % len(DASHES)])


def ordered_looks(count: int) -> list[Look]:
    """Looks for an ordered series (budgets, sizes): dark to light, marker and dash in turn."""
    colors = [to_hex(c) for c in matplotlib.colormaps["cividis"](np.linspace(0.05, 0.62, count))]
    looks = zip(colors, cycle(MARKERS), cycle(DASHES), strict=False)
    return [Look(color=color, marker=marker, line=line) for color, marker, line in looks]


def bits_name(bits: float) -> str:
    """`4-bit`, `1.58-bit`, `full precision`."""
    return "full precision" if np.isnan(bits) else f"{bits:g}-bit"


def text_width(text: str, size: float) -> float:
    """Width in inches of a line of text at `size` points. Call inside `applied()`."""
    if not text.strip():
        return 0.0
    # Hinting and a reader's own fonts set text a little wider than its outlines are.
    return 1.06 * float(TextPath((0.0, 0.0), text, size=size).get_extents().x1) / 72.0


def panel_grid(
    title: str, notes: Sequence[str], *, rows: int = 1, columns: int = 1, panel: tuple[float, float],
    gaps: tuple[float, float] = (0.45, 0.5), left: float = 0.55, right: float = 0.15, bottom: float = 0.42,
    top: float = 0.3, row_heights: Sequence[float] | None = None,
) -> tuple[Figure, list[list[Axes]]]:  # fmt: skip
    """A figure of panels laid out in inches, under a left-aligned title and, in smaller type, notes for the reader.

    Call inside `applied()`. Margins are explicit so that the same content always lands on the same places; `right`
    is where legends and direct labels go. The canvas belongs to the figure alone.
    """
    heights = list(row_heights or [panel[1]] * rows)
    width = left + columns * panel[0] + (columns - 1) * gaps[0] + right
    head = textwrap.wrap(title, int((width - 0.16) * 14.6)) or [""]
    small = [part for note in notes for part in textwrap.wrap(note, int((width - 0.16) * 16.6))]
    band = 0.14 + 0.165 * len(head) + 0.128 * len(small)
    height = band + top + sum(heights) + (rows - 1) * gaps[1] + bottom
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    y = height - 0.06
    for line in head:
        figure.text(0.08 / width, y / height, line, va="top", ha="left", fontsize=9, color=INK)
        y -= 0.165
    for line in small:
        figure.text(0.08 / width, y / height, line, va="top", ha="left", fontsize=7, color="#454545")
        y -= 0.128
    grid = []
    y = height - band - top
    for row_height in heights:
        y -= row_height
        places = [left + c * (panel[0] + gaps[0]) for c in range(columns)]
        grid.append([figure.add_axes((x / width, y / height, panel[0] / width, row_height / height)) for x in places])
        y -= gaps[1]
    return figure, grid


def out_path(path: str | os.PathLike[str], suffixes: tuple[str, ...] = SUFFIXES) -> Path:
    """`path` if a file of that kind can be written there; UsageError for another suffix, and for a folder."""
    target = Path(path)
    if target.suffix.lower() not in suffixes:
        *others, last = suffixes
        raise UsageError(f"--out {str(target)!r} must end in {', '.join(others)} or {last}.")
    if target.is_dir():
        raise UsageError(f"--out {str(target)!r} is a folder; name a file in it.")
    return target


def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write `figure` as SVG (text stays text), PDF (fonts embedded) or PNG (200 dots per inch), by the suffix.

    The same figure gives the same bytes: no dates, no random identifiers. The file appears whole or not at all.
    """
    target = out_path(path)
    atomic.write_bytes(target, render(figure, target.suffix.lower()[1:]))
    return target


def render(figure: Figure, kind: str) -> bytes:
    """The bytes of `figure` as "svg", "pdf" or "png"."""
    creator = f"qatplan {__version__}"
    metadata: dict[str, dict[str, Any]] = {
        "svg": {"Date": None, "Creator": creator},
        "pdf": {"CreationDate": None, "ModDate": None, "Creator": creator, "Producer": "matplotlib"},
        "png": {"Software": creator},
    }
    buffer = io.BytesIO()
    with applied():
        figure.savefig(buffer, format=kind, metadata=metadata[kind])
    return buffer.getvalue()
