"""HTML from small functions: whatever is not already markup is escaped, so that no file can write into the page."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

VOID = frozenset({"meta", "br", "col"})
_WHOLE = 16
"""Tables of no more rows stay on one page in print."""


class Markup(str):
    """Text that is HTML already. Plain `str` is escaped wherever it meets markup; this is not."""

    __slots__ = ()


def escape(text: object) -> Markup:
    """`text` as HTML; markup stays as it is. Characters that HTML forbids become the replacement character."""
    if isinstance(text, Markup):
        return text
    plain = "".join(c if (c >= " " and c != "\x7f") or c in "\n\t" else "\ufffd" for c in str(text))
    return Markup(html.escape(plain.encode("utf-8", "replace").decode(), quote=True))


def join(parts: Iterable[object], between: str = "") -> Markup:
    """The parts one after another, each escaped unless it is markup; None is left out."""
    return Markup(escape(between).join(escape(part) for part in parts if part is not None))


def element(name: str, *children: object, **attributes: object) -> Markup:
    """One element. `class_` means class, underscores become hyphens; an attribute of None is left out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def paragraph(*children: object, class_: str | None = None) -> Markup:
    """A paragraph of the children, one space between them."""
    return element("p", join([c for c in children if c is not None], " "), class_=class_)


def bullets(items: Sequence[object], class_: str | None = None) -> Markup:
    """A list; nothing for no items."""
    if not items:
        return Markup("")
    return element("ul", *(element("li", item) for item in items), class_=class_)


def table(
    caption: str,
    headers: Sequence[object],
    rows: Sequence[Sequence[object]],
    *,
    words: Iterable[int] = (0,),
    strong: int | None = None,
) -> Markup:
    """A table that scrolls sideways in its own frame where the page is too narrow.

    `words` are the columns aligned to the left, all others hold numbers; None is an empty cell. `strong` is the row to
    set in bold. Raises ValueError for a row whose length differs from the headers'.
    """
    left = set(words)

    def cell(kind: str, value: object, column: int, scope: str | None = None) -> Markup:
        return element(kind, "" if value is None else value, class_=None if column in left else "n", scope=scope)

    for row in rows:
        if len(row) != len(headers):
            raise ValueError(f"a row of '{caption}' has {len(row)} cells under {len(headers)} headers")
    head = element("tr", *(cell("th", h, i, "col") for i, h in enumerate(headers)))
    body = [
        element("tr", *(cell("td", v, i) for i, v in enumerate(row)), class_="strong" if r == strong else None)
        for r, row in enumerate(rows)
    ]
    grid = element(
        "table",
        element("caption", element("span", caption)),
        element("thead", head),
        Markup("\n"),
        element("tbody", join(body, "\n")),
    )
    return element(
        "div",
        grid,
        class_="wide whole" if len(rows) <= _WHOLE else "wide",
        role="region",
        tabindex="0",
        aria_label=caption,
    )


def section(key: str, title: str, *children: object) -> Markup:
    """A section with its heading, which the list of contents links to by `key`."""
    return element("section", element("h2", title), Markup("\n"), join(children, "\n"), id=key)


def warning(title: str, *children: object) -> Markup:
    """A box that says by its frame and its first word, not by its colour, that it is a warning."""
    return element(
        "div", element("p", element("strong", f"Warning: {title}")), *children, class_="warning", role="note"
    )


def shell(commands: Sequence[str]) -> Markup:
    """Command lines, wrapped where they are too long."""
    return element("pre", element("code", "\n".join(commands))) if commands else Markup("")


def unique_names(names: Iterable[str]) -> str:
    """The names once each, in order, as a list in words."""
    kept = list(dict.fromkeys(names))
    return kept[0] if len(kept) == 1 else f"{', '.join(kept[:-1])} and {kept[-1]}" if kept else "none"
