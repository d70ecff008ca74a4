"""Figures as inline SVG: scaling, labelled for screen readers, and several to a page without clashing names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from markupsafe import Markup

from qatplan.figures.style import render

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_PIXELS = 1.6
"""Largest width on the page, in CSS pixels per point of the figure: its small type then reads like small type."""


def inline(figure: Figure, *, prefix: str, label: str) -> Markup:
    """`figure` as an `<svg>` element for a page, its identifiers beginning with `prefix`.

    The width follows the page up to the figure's own. Names that nothing refers to are dropped, the style that would
    reach the whole page moves to the element, and metadata, which names outside addresses, is left out.
    """
    root = ElementTree.fromstring(render(figure, "svg"))
    for parent in [*root.iter()]:
        for child in [*parent]:
            if child.tag.endswith("}metadata"):
                parent.remove(child)
    style, used = "", set[str]()
    for element in root.iter():
        # A page knows SVG without its namespaces.
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        for key, value in element.attrib.items():
            used |= {value[1:]} if key == "href" else set(_REFERENCE.findall(value))
        if element.tag == "style":
            style = (element.text or "").strip().removeprefix("*{").removesuffix("}")
            element.text = ""
    for element in root.iter():
        if element.attrib.get("id") in used:
            element.attrib["id"] = prefix + element.attrib["id"]
        else:
            element.attrib.pop("id", None)
        for key, value in element.attrib.items():
            moved = f"#{prefix}{value[1:]}" if key == "href" else _REFERENCE.sub(rf"url(#{prefix}\1)", value)
            element.attrib[key] = moved
    box = root.attrib["viewBox"]
    width = float(box.split()[2]) * _PIXELS
    sizes = f"width:100%;max-width:{width:.0f}px;--natural:{width:.0f}px;{style}"
    root.attrib = {"viewBox": box, "role": "img", "aria-label": label, "style": sizes}
    return Markup(ElementTree.tostring(root, encoding="unicode"))
