"""The pages tell the truth: every example runs, every output shown is what is printed, what is not run is known."""

from __future__ import annotations

import dataclasses
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any, cast

import pytest
import typer
from refresh import Block, blocks, pages, replay
from surroundings import ROOT

import qatplan as qp
from qatplan.cli.app import app
from qatplan.sweeping.specification import Grid, Training
from qatplan.training.corpus.corpus import Source

COMMANDS: dict[str, Any] = cast(Any, typer.main.get_command(app)).commands
EXPECTED = [
    ("docs/explanation/fitting.md", "it fits the unified law twelve times"),
    ("docs/explanation/intervals.md", "a thousand replications take hours"),
    ("docs/explanation/methods.md", "it trains for hours"),
    ("docs/explanation/plans.md", "it needs a fit of large models"),
    ("docs/explanation/plans.md", "it needs a fit of large models"),
    ("docs/explanation/plans.md", "it takes 74 s of CPU"),
    ("docs/explanation/post-training.md", "it takes minutes"),
    ("docs/explanation/quantizers.md", "it takes many minutes"),
    ("docs/explanation/shipped-sweep.md", "a thousand bootstrap draws take too long for a test"),
    ("docs/explanation/shipped-sweep.md", "a thousand bootstrap draws take too long for a test"),
    ("docs/explanation/shipped-sweep.md", "the tutorial runs the same command"),
    ("docs/explanation/shipped-sweep.md", "it fits two laws twelve times, and with random effects again"),
    ("docs/explanation/speed.md", "it trains for many minutes"),
    ("docs/explanation/speed.md", "its peers have to be installed first"),
    ("docs/explanation/sweeps.md", "it needs an object store"),
    ("docs/explanation/sweeps.md", "it needs a sweep's folder"),
    ("docs/explanation/transition-rate.md", "it trains for minutes"),
    ("docs/how-to/cluster.md", "it trains, and needs a cluster"),
    ("docs/how-to/cluster.md", "it needs Slurm"),
    ("docs/how-to/given-checkpoint.md", "a model of this size needs a fit of your own"),
    ("docs/how-to/own-runs.md", "it needs a tracking server"),
    ("docs/how-to/own-runs.md", "six rows are too few for a law"),
    ("docs/tutorial.md", "it installs packages"),
    ("docs/tutorial.md", "it trains for some minutes"),
]
"""Examples that are shown and not run, with the reason that their page's source gives: none is skipped unnoticed."""
NOT_RUN = [block for page in pages() for block in blocks(page) if block.mark == "not run"]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_run_and_print_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    for block, printed in replay(page, tmp_path):
        assert block.text == printed, f"{block} is out of date; `python docs/refresh.py` writes it anew"


def test_examples_that_are_not_run_are_known() -> None:
    assert [(str(block.page.relative_to(ROOT)), block.value) for block in NOT_RUN] == EXPECTED


@pytest.mark.parametrize("block", NOT_RUN, ids=str)
def test_commands_that_are_not_run_exist_with_their_options(block: Block) -> None:
    for words in commands(block.text):
        if words[0].startswith("-"):
            continue
        command = COMMANDS[words[0]]
        known = {option for p in command.get_params(typer.Context(command)) for option in p.opts + p.secondary_opts}
        unknown = {word.split("=")[0] for word in words[1:] if word.startswith("--")} - known
        assert not unknown, f"{block}: qatplan {words[0]} has no {', '.join(sorted(unknown))}"


def commands(text: str) -> list[list[str]]:
    """The words after `qatplan` of each shell line that calls it, without comments."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|\|\||;|\|", line.split(" #")[0]):
            words = shlex.split(part, comments=True) if "qatplan " in part else []
            if "qatplan" in words:
                found.append([w for w in words[words.index("qatplan") + 1 :] if w != "&"])
    return found


TOML = [block for page in pages() for block in blocks(page) if block.language == "toml"]
LAWS = [block for block in TOML if "formula" in tomllib.loads(block.text)]


@pytest.mark.parametrize("block", LAWS, ids=str)
def test_laws_of_ones_own_are_read(block: Block, tmp_path: Path) -> None:
    (tmp_path / "law.toml").write_text(block.text, encoding="utf-8")
    assert qp.law(tmp_path / "law.toml")


@pytest.mark.parametrize("block", [block for block in TOML if block not in LAWS], ids=str)
def test_keys_of_specifications_exist(block: Block) -> None:
    """Whole specifications, and keys of a grid shown alone."""
    tables = tomllib.loads(block.text)
    grids = tables.pop("grid", []) if "grid" in tables or "corpus" in tables else [tables]
    known = {"corpus": Source, "training": Training}
    for name, table in [*tables.items()] if grids != [tables] else []:
        assert set(table) <= {field.name for field in dataclasses.fields(known[name])}
    for grid in grids:
        assert set(grid) <= {field.name for field in dataclasses.fields(Grid)}


def test_every_example_stands_in_a_fence() -> None:
    """An indented block would escape the tests; the README's two commands are run by continuous integration."""
    allowed = ['pip install -e ".[train]" && qatplan demo', 'pip install -e ".[dev]" && pytest']
    for page in pages():
        outside = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        indented = [line.strip() for line in outside.splitlines() if line.startswith("    ")]
        extra = [line for line in indented if line not in allowed]
        assert not [line for line in extra if re.match(r"(qatplan|python|pip|import) ", line)], page
