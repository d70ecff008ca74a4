"""What a result says, before anybody knows where: titled sections of sentences, lists and tables."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bullets:
    """A list of short sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of finished cells; None is an empty one."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]
    words: tuple[int, ...] = ()
    """Columns of words, which may be wrapped; the others hold numbers and stay whole."""
    strong: int | None = None
    """The row that was chosen."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.headers):
                raise ValueError(f"a row has {len(row)} cells under {len(self.headers)} headers")

    @property
    def numeric(self) -> tuple[int, ...]:
        """Columns of numbers, which stand to the right."""
        columns = [[row[i] or "" for row in self.rows] for i in range(len(self.headers))]
        return tuple(i for i, column in enumerate(columns) if i not in self.words and _numeric(column))


@dataclass(frozen=True)
class More:
    """What is left out here; whoever shows it adds how to see it."""

    what: str


@dataclass(frozen=True)
class Command:
    """A shell command to copy: its lines break between words alone, each with a backslash."""

    text: str


Block = str | Bullets | Table | More | Command
"""A paragraph, a list, a table, what is left out, or a command."""


@dataclass(frozen=True)
class Section:
    """A title and what stands below it. Without blocks it says nothing and is not shown."""

    title: str
    blocks: tuple[Block, ...]
    warning: bool = False
    """Whether a reader must not miss it."""


def section(title: str, *blocks: Block | None, warning: bool = False) -> Section:
    """A section of the blocks that say something."""
    return Section(title, tuple(block for block in blocks if block is not None and _says(block)), warning)


def bullets(*items: str | None) -> Bullets:
    """A list of the items that say something."""
    return Bullets(tuple(item for item in items if item))


def _says(block: Block) -> bool:
    return bool(block.items if isinstance(block, Bullets) else block.rows if isinstance(block, Table) else block)


def _numeric(column: list[str]) -> bool:
    return any(column) and all(not cell or cell.lstrip("+-−.~<>=≥≤ ")[:1].isdigit() for cell in column)


def percent(share: float, digits: str = ".3g") -> str:
    """A share as a percentage, in plain characters."""
    return f"{100 * share:{digits}} %"


def sentence(text: str) -> str:
    """A capital at the beginning, unless a symbol stands there, and a full stop at the end."""
    first = text[0].upper() if text[1:2].isalpha() else text[0]
    return f"{first}{text[1:]}{'' if text.endswith('.') else '.'}"
