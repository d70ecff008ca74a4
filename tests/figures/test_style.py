"""Looks that survive a photocopier, deterministic files, and no trace left in matplotlib."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import matplotlib
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from qatplan.errors import UsageError
from qatplan.figures.style import applied, bits_look, bits_name, ordered_looks, out_path, panel_grid, render, save

WIDTHS = (1.0, 1.58, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0)


def lightness(color: str) -> float:
    """CIE L* of a colour."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    y = sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return 116 * y ** (1 / 3) - 16


def example() -> Figure:
    with applied():
        figure, grid = panel_grid("A finding", ["A note."], panel=(2.0, 1.5))
        grid[0][0].plot([0, 1], [0, 1], label="line")
        grid[0][0].set_xlabel("Tokens")
        return figure


def test_bit_widths_get_lighter_with_more_bits_and_never_too_light() -> None:
    shades = [lightness(bits_look(b).color) for b in WIDTHS]
    assert all(a + 2.5 < b for a, b in pairwise(shades))
    assert shades[-1] < 78


def test_bit_widths_differ_in_marker_too() -> None:
    assert len({bits_look(b).marker for b in WIDTHS}) == len(WIDTHS)


def test_neighbouring_bit_widths_differ_in_line() -> None:
    main = [bits_look(b).line for b in (1.0, 2.0, 3.0, 4.0, 6.0)]
    assert len({str(line) for line in main}) == 5


def test_ordered_looks_differ_in_lightness_and_marker() -> None:
    looks = ordered_looks(6)
    shades = [lightness(look.color) for look in looks]
    assert shades == sorted(shades)
    assert len({look.marker for look in looks}) == 6


def test_names_of_bit_widths() -> None:
    assert [bits_name(b) for b in (4.0, 1.58, float("nan"))] == ["4-bit", "1.58-bit", "full precision"]


@pytest.mark.parametrize("kind", ["svg", "pdf", "png"])
def test_same_figure_gives_same_bytes(kind: str) -> None:
    assert render(example(), kind) == render(example(), kind)


def test_svg_keeps_text_as_text_and_has_no_date() -> None:
    text = render(example(), "svg").decode()
    for words in ("A finding", "A note.", "Tokens"):
        assert f">{words}</text>" in text
    assert "dc:date" not in text


def test_pdf_has_no_date_and_embeds_true_type() -> None:
    content = render(example(), "pdf")
    assert b"CreationDate" not in content
    assert b"/FontFile2" in content


def test_styles_leave_no_trace() -> None:
    before = dict(matplotlib.rcParams)
    render(example(), "svg")
    assert dict(matplotlib.rcParams) == before


def test_users_own_settings_do_not_enter() -> None:
    plain = render(example(), "svg")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert render(example(), "svg") == plain


def test_pyplot_is_never_loaded() -> None:
    code = (
        "import sys; from qatplan.figures import style, loss_curves_drawing, fraction, contours, frontier, residuals,"
        " parameters, training_curves, make; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["figure.jpg", "figure", "figure.svgz"])
def test_unknown_suffix_is_refused_with_what_is_allowed(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"must end in \.svg, \.pdf or \.png"):
        out_path(tmp_path / name)


def test_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.svg").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        out_path(tmp_path / "a.svg")


@pytest.mark.parametrize(("suffix", "start"), [(".svg", b"<?xml"), (".pdf", b"%PDF"), (".PNG", b"\x89PNG")])
def test_saved_file_is_of_its_kind(tmp_path: Path, suffix: str, start: bytes) -> None:
    path = save(example(), tmp_path / f"figure{suffix}")
    assert path.read_bytes().startswith(start)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
