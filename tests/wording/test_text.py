"""Sections as text: nothing is wider than the terminal, numbers stay whole, empty sections are silent."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qatplan.wording.sections import Command, Table, bullets, section
from qatplan.wording.text import table_lines, to_text


def test_sections_read_as_a_person_expects() -> None:
    table = Table(
        headers=("bits", "loss", "verdict"),
        rows=(("4", "2.31", "chosen"), ("3", "2.4", "cannot be told from the choice"), ("2", None, "worse")),
        words=(2,),
        strong=0,
    )
    text = to_text(
        [
            section("Plan", "Train at 4 bits.", table),
            section("Silent", None, bullets()),
            section("Why", bullets("So.")),
        ],
        40,
        strong=lambda line: f"*{line}*",
    )
    assert text == "\n".join(
        [
            "Plan",
            "  Train at 4 bits.",
            "  bits  loss  verdict",
            "  ----  ----  --------------------------",
            "  *   4  2.31  chosen*",
            "     3   2.4  cannot be told from the",
            "              choice",
            "     2        worse",
            "",
            "Why",
            "  - So.",
        ]
    )


@given(st.lists(st.text("abc -", max_size=60), min_size=1, max_size=6), st.integers(60, 120))
def test_words_are_wrapped_to_the_width(texts: list[str], width: int) -> None:
    rows = tuple((str(number), text, text) for number, text in enumerate(texts))
    lines = table_lines(Table(headers=("n", "first", "second"), rows=rows, words=(1, 2)), width)
    longest = max((len(word) for text in texts for word in text.split()), default=0)
    if longest <= 12:
        assert all(len(line) <= width for line in lines)


def test_a_row_of_another_length_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="2 cells under 1 headers"):
        Table(headers=("a",), rows=(("1", "2"),))


def test_a_command_can_be_copied_whole() -> None:
    words = [
        "qatplan",
        "import",
        "a.csv",
        "--map",
        "fraction=QAT % of all",
        "--map",
        "d_total=`flops (1e15)` * 1e15 / (6 * N)",
    ]
    for width in (20, 40, 80):
        text = to_text([section("", Command(shlex.join(words)))], width)
        assert shlex.split(text.replace("\\\n", "")) == words
        longest = max(len(shlex.quote(word)) + 6 for word in words)
        assert all(len(line) <= max(width, longest) for line in text.splitlines())
        assert all(line.endswith(" \\") for line in text.splitlines()[:-1])
