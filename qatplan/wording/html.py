"""Sections as HTML: in a notebook, and on the page of a report. Whatever is not markup already is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from qatplan.wording.sections import Section

_HERE = Path(__file__).with_name("templates")


def to_html(sections: Iterable[Section]) -> str:
    """The sections as one element, for a notebook."""
    return environment().get_template("notebook.html").render(sections=[s for s in sections if s.blocks]).strip()


@cache
def environment(*folders: Path) -> Environment:
    """Templates of ours, and of `folders`, that escape what they are given; a missing value is an error."""
    return Environment(
        loader=FileSystemLoader([_HERE, *folders]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )


def _printable(value: object) -> object:
    """Text without the characters that HTML forbids: each becomes the replacement character."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    kept = "".join(c if (c >= " " and c != "\x7f") or c in "\n\t" else "\ufffd" for c in value)
    return kept.encode("utf-8", "replace").decode()
