"""What a law of one's own says of itself: a formula, and its parameters with domain, unit and meaning."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from qatplan.errors import UsageError, shorten
from qatplan.laws.fit_parts import Pair

LONGEST, MOST_PARAMETERS = 300, 40
"""Characters of a text other than the formula; parameters of a law."""
_LAW_NAME, _NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}"), re.compile(r"[A-Za-z]\w{0,29}", re.ASCII)
_LARGEST = 1e300


@dataclass(frozen=True, kw_only=True)
class Declared:
    """A parameter as its law declares it."""

    name: str
    meaning: str
    unit: str
    domain: Pair
    """Smallest and largest value, infinite where there is no such end; not a number in a file without one."""
    start: Pair | None = None
    """Where a fit begins to look; the domain unless given. The scale of a term needs none."""
    scale: Literal["log", "linear"] | None = None
    """How a fit sees the value; by default log for the scale of a term, else linear."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            what = "a letter, then letters, digits and underscores, 30 characters at most"
            raise UsageError(f"parameter {shorten(self.name)!r} is no name: allowed are {what}")
        for key in ("meaning", "unit"):
            check_text(f"{self}.{key}", getattr(self, key))
        low, high = self.domain
        ends = (-math.inf if math.isnan(low) else low, math.inf if math.isnan(high) else high)
        object.__setattr__(self, "domain", ends)
        if not ends[0] < ends[1] or any(_LARGEST < abs(end) < math.inf for end in ends):
            raise UsageError(f"{self}.domain is {_shown(ends)}; its low end must be below its high one")
        if self.scale == "log" and ends[0] < 0:
            raise UsageError(f"{self}.domain is {_shown(ends)}, but scale log needs one from 0 on")
        if self.start is None:
            return
        low, high = self.start
        least = 0.0 if self.scale == "log" else -math.inf
        if not (ends[0] <= low < high <= ends[1] and math.isfinite(high - low) and low > least):
            inside = f"two numbers, the low one first, inside the domain {_shown(ends)}"
            more = " and above 0" if self.scale == "log" else ""
            raise UsageError(f"{self}.start is {_shown(self.start)}; allowed are {inside}{more}")

    def __str__(self) -> str:
        return f"parameters.{self.name}"

    @property
    def symbol(self) -> str:
        """Its name in Greek where it is the name of a Greek letter: `eta_q` is η_q."""
        letter, index, rest = self.name.partition("_")
        case = "CAPITAL" if letter[:1].isupper() and len(letter) > 1 else "SMALL"
        try:
            letter = unicodedata.lookup(f"GREEK {case} LETTER {letter.upper().replace('LAMBDA', 'LAMDA')}")
        except KeyError:
            return self.name
        return letter + index + rest


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A law as its file states it."""

    name: str
    formula: str
    parameters: tuple[Declared, ...]
    title: str
    source: str

    def __post_init__(self) -> None:
        if not _LAW_NAME.fullmatch(self.name) or self.name.endswith(".toml"):
            what = "small letters, digits, hyphens, dots and underscores, 40 at most"
            raise UsageError(f"name is {shorten(self.name)!r}; allowed are {what}")
        for key in ("title", "source"):
            check_text(key, getattr(self, key))
        names = [p.name for p in self.parameters]
        if not 0 < len(names) <= MOST_PARAMETERS:
            raise UsageError(f"parameters are {len(names)}; allowed are 1 to {MOST_PARAMETERS}")
        if twice := {name for name in names if names.count(name) > 1}:
            raise UsageError(f"parameter {min(twice)} is declared twice")


def check_text(where: str, text: str) -> None:
    """Raise UsageError for a text that does not fit into a line."""
    if len(text) > LONGEST or not text.isprintable() or not text.strip():
        raise UsageError(f"{where} is {shorten(text)!r}; allowed is a line of 1 to {LONGEST} characters")


def _shown(ends: Pair) -> str:
    return f"[{ends[0]:g}, {ends[1]:g}]"
