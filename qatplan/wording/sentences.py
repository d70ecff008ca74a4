"""Small parts of sentences that several results share."""

from __future__ import annotations


def percent(share: float, digits: str = ".3g") -> str:
    """A share as a percentage, in plain characters."""
    return f"{100 * share:{digits}} %"


def sentence(text: str) -> str:
    """A capital at the beginning, unless a symbol stands there, and a full stop at the end."""
    first = text[0].upper() if text[1:2].isalpha() else text[0]
    return f"{first}{text[1:]}{'' if text.endswith('.') else '.'}"
