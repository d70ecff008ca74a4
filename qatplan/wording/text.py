"""Sections as plain text of a given width: for a terminal, a pipe, or the repr of a result."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Callable, Iterable

from qatplan.wording.sections import Block, Bullets, Command, More, Section, Table

WIDTH = 80
"""Columns of a terminal that does not say how many it has."""
_GAP = 2
_LEAST = 12
"""Columns below which a column of words is not narrowed."""

Style = Callable[[str], str]


def plain(text: str) -> str:
    """No style at all."""
    return text


def to_text(
    sections: Iterable[Section],
    width: int = WIDTH,
    *,
    title: Style = plain,
    strong: Style = plain,
    more: str = "--details",
) -> str:
    """Sections one below the other, parted by empty lines; `title` and `strong` mark titles and a table's choice.

    `more` is how a reader sees what is left out.
    """
    shown = []
    for part in sections:
        if not part.blocks:
            continue
        lines = [title(part.title)] if part.title else []
        for block in part.blocks:
            lines += _lines(block, width, strong, more)
        shown.append("\n".join(lines))
    return "\n\n".join(shown)


def _lines(block: Block, width: int, strong: Style, more: str) -> list[str]:
    if isinstance(block, More):
        block = f"{block.what}: {more}."
    if isinstance(block, Bullets):
        return [line for item in block.items for line in wrapped(item, width, first="  - ", rest="    ")]
    if isinstance(block, Table):
        return [f"  {line}" if line else "" for line in table_lines(block, width - 2, strong)]
    if isinstance(block, Command):
        return command_lines(block.text, width)
    return wrapped(block, width, first="  ", rest="  ")


def command_lines(text: str, width: int) -> list[str]:
    """A shell command that can be copied whole: a word in quotes stays whole, however long."""
    lines: list[str] = []
    for word in map(shlex.quote, shlex.split(text)):
        if lines and len(lines[-1]) + len(word) + 3 <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(f"    {word}" if lines else f"  {word}")
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]


def wrapped(text: str, width: int, *, first: str = "", rest: str = "") -> list[str]:
    """The lines of a paragraph."""
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def table_lines(table: Table, width: int = WIDTH, strong: Style = plain) -> list[str]:
    """A table's header, rule and rows; columns of words are wrapped until the table fits."""
    cells = [[cell or "" for cell in row] for row in table.rows]
    right = [i in table.numeric for i in range(len(table.headers))]
    widths = [max(map(len, (header, *(row[i] for row in cells)))) for i, header in enumerate(table.headers)]
    excess = sum(widths) + _GAP * (len(widths) - 1) - width
    for i in sorted(table.words, key=lambda i: -widths[i]):
        if excess > 0:
            narrow = max(_LEAST, widths[i] - excess)
            excess -= max(0, widths[i] - narrow)
            widths[i] = min(widths[i], narrow)
    lines = _row(list(table.headers), widths, right)
    lines.append((" " * _GAP).join("-" * w for w in widths))
    for number, row in enumerate(cells):
        made = _row(row, widths, right)
        lines += [strong(line) for line in made] if number == table.strong else made
    return lines


def _row(cells: list[str], widths: list[int], right: list[bool]) -> list[str]:
    parts = [wrapped(cell, width) or [""] for cell, width in zip(cells, widths, strict=True)]
    lines = []
    for k in range(max(map(len, parts))):
        line = [part[k] if k < len(part) else "" for part in parts]
        joined = (" " * _GAP).join(
            text.rjust(w) if r else text.ljust(w) for text, w, r in zip(line, widths, right, strict=True)
        )
        lines.append(joined.rstrip())
    return lines
