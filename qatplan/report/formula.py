"""A law's formula, written in the laws as plain text, set with raised exponents, lowered indices and Greek letters."""

from __future__ import annotations

import re
from collections.abc import Mapping

from qatplan.laws.law import Law
from qatplan.report.markup import (
    Markup,
    element,
    escape,
    join,
)

_PIECE = re.compile(
    r"\^\((?P<group>[^()]*)\)|\^(?P<power>[A-Za-z]\w*|\d+)|(?P<word>[A-Za-z]\w*)|(?P<times>\*)|(?P<other>[^\w^*]+|.)"
)
_UPRIGHT = frozenset({"exp", "ln", "log2", "bits", "for", "each", "bit", "width", "per", "and", "when", "rounded",
                      "after", "training", "b", "eff"})  # fmt: skip


def typeset(law: Law | type[Law], symbols: Mapping[str, str] | None = None) -> Markup:
    """The formula as HTML. `symbols` maps names of parameters to what is printed for them."""
    return _set(law.formula, dict(symbols or {}))


def symbols_of(law: Law) -> dict[str, str]:
    """What is printed for each parameter of the law."""
    return {p.name: p.symbol for p in law.parameters()}


def name(word: str, symbols: Mapping[str, str]) -> Markup:
    """One name: its symbol, what follows an underscore lowered."""
    if word in symbols:
        word = symbols[word]
    base, _, index = word.partition("_")
    shown: object = base if base in _UPRIGHT else element("i", symbols.get(base, base))
    return join([shown, element("sub", index) if index else None])


def _set(text: str, symbols: Mapping[str, str]) -> Markup:
    parts: list[Markup] = []
    for piece in _PIECE.finditer(text):
        if piece["group"] is not None:
            parts.append(element("sup", _set(piece["group"], symbols)))
        elif piece["power"] is not None:
            parts.append(element("sup", name(piece["power"], symbols)))
        elif piece["word"] is not None:
            parts.append(name(piece["word"], symbols))
        elif piece["times"] is not None:
            parts.append(Markup(" · "))
        else:
            # A minus sign between or before terms; hyphens do not occur in formulas.
            parts.append(escape(piece["other"].replace("-", "−")))
    return join(parts)
