"""The pages tell the truth: every example runs, every output shown is what is printed, what is not run is known."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, cast

import pytest
import typer
from refresh import ROOT, Block, blocks, pages, replay

from qatplan.cli.app import app

COMMANDS: dict[str, Any] = cast(Any, typer.main.get_command(app)).commands
NOT_RUN = [block for page in pages() for block in blocks(page) if block.mark == "not run"]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_run_and_print_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    for block, printed in replay(page, tmp_path):
        assert block.text == printed, f"{block} is out of date; `python docs/refresh.py` writes it anew"


def test_examples_that_are_not_run_are_known() -> None:
    """One line for each page: how many of its examples are shown alone, so that none is skipped unnoticed."""
    counted: dict[str, int] = {}
    for block in NOT_RUN:
        assert block.value, f"{block} is not run and does not say why"
        name = str(block.page.relative_to(ROOT))
        counted[name] = counted.get(name, 0) + 1
    assert counted == EXPECTED


EXPECTED: dict[str, int] = {}


@pytest.mark.parametrize("block", NOT_RUN, ids=str)
def test_commands_that_are_not_run_exist_with_their_options(block: Block) -> None:
    for words in commands(block.text):
        command = COMMANDS[words[0]]
        known = {option for p in command.get_params(typer.Context(command)) for option in p.opts + p.secondary_opts}
        unknown = {word.split("=")[0] for word in words[1:] if word.startswith("--")} - known
        assert not unknown, f"{block}: qatplan {words[0]} has no {', '.join(sorted(unknown))}"


def commands(text: str) -> list[list[str]]:
    """The words after `qatplan` of each shell line that calls it; comments and what follows a separator are left out."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|\|\||;|\|", line.split(" #")[0]):
            words = shlex.split(part, comments=True) if "qatplan " in part else []
            if "qatplan" in words:
                found.append([w for w in words[words.index("qatplan") + 1 :] if w != "&"])
    return found


def test_every_example_stands_in_a_fence() -> None:
    """An indented block would escape the tests; the README's two commands are run by continuous integration."""
    allowed = ['pip install -e ".[train]" && qatplan demo', 'pip install -e ".[dev]" && pytest']
    for page in pages():
        outside = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        indented = [line.strip() for line in outside.splitlines() if line.startswith("    ")]
        extra = [line for line in indented if line not in allowed]
        assert not [line for line in extra if re.match(r"(qatplan|python|pip|import) ", line)], page
