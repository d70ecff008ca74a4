"""The written reference is complete, and the files about the project agree with it."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from refresh import pages
from surroundings import ROOT

import qatplan
from qatplan.sweeping.specification import Grid, Training
from qatplan.training.corpus.corpus import Source

DOCS = ROOT / "docs"
LINK = re.compile(r"\]\((?!https?:|#)(?P<path>[^)#\s]+)")


@pytest.mark.parametrize("table", [Source, Training, Grid])
def test_every_key_of_a_specification_is_described(table: type) -> None:
    described = rows_of("reference/sweep-specification.md")
    assert {field.name for field in dataclasses.fields(table)} <= described  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["qat-loss", "qat-fraction", "chinchilla"])
def test_every_key_of_a_fit_is_described(name: str) -> None:
    keys = set(json.loads((ROOT / "fits" / f"{name}.json").read_text()))
    assert keys - {"format"} <= rows_of("reference/fit-file.md")


def rows_of(page: str) -> set[str]:
    """Names in code in the first column of the tables of a page."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    return {name for line in lines if line.startswith("| `") for name in re.findall(r"`(\w+)`", line.split("|")[1])}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "data/README.md", "fits/README.md"])
def test_links_lead_somewhere(name: str) -> None:
    """The pages of the site are checked when it is built."""
    page = ROOT / name
    lost = [path for path in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / path).exists()]
    assert lost == []


def test_paths_that_pages_name_exist() -> None:
    """Files of the repository, as `tests/...py` or `qatplan/...py`, in all that is written about it."""
    written = [*pages(), ROOT / "CONTRIBUTING.md", ROOT / "data/README.md", ROOT / "fits/README.md"]
    named = re.compile(r"\b((?:qatplan|tests|benchmarks|data|fits|docs)/[\w/.-]+\.(?:py|csv|md|toml|parquet|json))\b")
    lost = {
        f"{page.relative_to(ROOT)}: {path}"
        for page in written
        for path in named.findall(page.read_text(encoding="utf-8"))
        if "NAME" not in path and not (ROOT / path).exists()
    }
    assert lost == set()


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130


def test_the_version_is_one() -> None:
    assert re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1] == qatplan.__version__  # type: ignore[index]
    released = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[0] == qatplan.__version__
    assert "version" not in Path(ROOT / "pyproject.toml").read_text().split("[project]")[1].split("dynamic")[0]


def test_the_findings_that_the_readme_quotes() -> None:
    command = [sys.executable, "benchmarks/findings.py"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    table = printed.split("Optimal fraction by fits/qat-loss.json")[1].split("Does the")[0]
    curves, above, holds = next(line.split()[1:4] for line in table.splitlines() if line.strip().startswith("all"))
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"lies above the measured minimum on {above} of {curves} curves" in readme
    assert f"its 95 % interval holds the minimum on {holds} of them" in readme
