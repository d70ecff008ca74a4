"""A law's formula, which the laws have as plain text, as MathML: it can be read aloud, copied and searched."""

from __future__ import annotations

import re

from markupsafe import Markup

from qatplan.laws.law import Law

_PIECE = re.compile(
    r"\^(?:\((?P<group>(?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\)|(?P<power>-?\w+(?:\.\d+)?))"
    r"|(?P<word>[A-Za-z]\w*)|(?P<number>\d+(?:\.\d+)?)|(?P<operator>[^\w\s])"
)
_PROSE = frozenset(["for", "each", "bit", "width", "per", "and", "when", "rounded", "after", "training"])
_FUNCTIONS = {"ln": "ln\u2009", "log2": "log₂\u2009"}
_OPERATORS = {"*": "·", "-": "−"}


def mathml(law: Law) -> Markup:
    """The formula in the law's symbols, an element for each of its summands, so that lines break between them."""
    symbols = {p.name: p.symbol for p in law.parameters()}
    text = law.formula
    # A sum in brackets stays whole.
    ends = [m.start() for m in re.finditer(r" (?=[=+\[] ?|S = )", text)]
    ends = [end for end in ends if text.count("(", 0, end) == text.count(")", 0, end)]
    summands = [text[begin:end] for begin, end in zip([0, *ends], [*ends, len(text)], strict=True)]
    return Markup("<wbr>").join(Markup("<math>{}</math>").format(_row(part, symbols)) for part in summands)


def _row(text: str, symbols: dict[str, str]) -> Markup:
    """Symbols side by side; a power is that of the symbol before it."""
    row: list[Markup] = []
    for piece in _PIECE.finditer(text):
        if power := piece["group"] or piece["power"]:
            row.append(Markup("<msup>{}<mrow>{}</mrow></msup>").format(row.pop(), _row(power, symbols)))
        elif word := piece["word"]:
            row.append(_name(word, symbols))
        elif number := piece["number"]:
            row.append(Markup("<mn>{}</mn>").format(number))
        else:
            operator = piece["operator"]
            # Brackets as high as a line; a summand's own sign keeps its distance from it.
            row.append(
                Markup('<mo stretchy="false"{}>{}</mo>').format(
                    Markup(' form="infix"') if operator in "=+" else "", _OPERATORS.get(operator, operator)
                )
            )
    return Markup("").join(row)


def _name(word: str, symbols: dict[str, str]) -> Markup:
    """A parameter, a quantity or a word; what follows an underscore stands below the line."""
    if word in _PROSE:
        return Markup("<mtext>\u00a0{}\u00a0</mtext>").format(word)
    base, _, index = symbols.get(word, word).partition("_")
    name = Markup("<mi>{}</mi>").format(_FUNCTIONS.get(base, symbols.get(base, base)))
    return Markup("<msub>{}<mi>{}</mi></msub>").format(name, index) if index else name
