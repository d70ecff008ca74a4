"""Figures as inline SVG: scaling, labelled for screen readers, and several to a page without clashing names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qatplan.report.markup import Markup, element, escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OPENING = re.compile(r"<svg\b[^>]*>")
_VIEW = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)
_GLOBAL_STYLE = re.compile(r'\s*<defs>\s*<style type="text/css">\*\{([^}]*)\}</style>\s*</defs>')
_ID = re.compile(r'\sid="([^"]*)"')
_USES = re.compile(r'(?:xlink:href="#([^"]+)"|url\(#([^)]+)\))')
_PIXELS = 1.6
"""Largest width on the page, in CSS pixels per point of the figure: its small type then reads like small type."""


def inline(figure: Figure, *, prefix: str, label: str) -> Markup:
    """`figure` as an `<svg>` element for a page, its identifiers beginning with `prefix`.

    The width follows the page up to the figure's own; names that nothing refers to are dropped, the style that would
    reach the whole page moves to the element, and metadata, which names outside addresses, is left out.
    """
    from qatplan.figures.style import render

    return embed(render(figure, "svg").decode("utf-8"), prefix=prefix, label=label)


def embed(text: str, *, prefix: str, label: str) -> Markup:
    """The same for the text of an SVG file as matplotlib writes it. Raises ValueError for another kind of SVG."""
    opening, view = _OPENING.search(text), _VIEW.search(text)
    if opening is None or view is None:
        raise ValueError("the figure is no SVG with a viewBox at the origin")
    width = float(view[1]) * _PIXELS
    body = _METADATA.sub("", text[opening.end() : text.rindex("</svg>")])
    shared = _GLOBAL_STYLE.search(body)
    body = _GLOBAL_STYLE.sub("", body)
    used = {a or b for a, b in _USES.findall(body)}
    body = _ID.sub(lambda m: f' id="{prefix}{m[1]}"' if m[1] in used else "", body)
    body = _USES.sub(lambda m: f'href="#{prefix}{m[1]}"' if m[1] else f"url(#{prefix}{m[2]})", body)
    style = f"width:100%;max-width:{width:.0f}px;--natural:{width:.0f}px;{shared[1] if shared else ''}"
    return Markup(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{view[0][9:-1]}" role="img" '
        f'aria-label="{escape(label)}" style="{escape(style)}">{body.strip()}</svg>'
    )


def framed(drawing: Markup, number: int, caption: object, key: str) -> Markup:
    """A numbered figure with its caption."""
    words = element("figcaption", element("b", f"Figure {number}."), " ", caption)
    return element("figure", element("div", drawing, class_="drawing", tabindex="0"), words, id=key)
