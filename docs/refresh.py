"""The examples of the README, of docs/ and of examples/: find them, run them, and write the output that they show.

    python docs/refresh.py [--check]

A page marks its fenced blocks with HTML comments on the line before:

    <!-- output of: COMMAND -->     the block is what COMMAND prints; this command writes it, `--check` compares it.
                                    "the lines above" is what the block of Python before it prints
    <!-- file: NAME -->             the block is a file of that name, which later examples use
    <!-- not run: REASON -->        the block is an example that the tests do not run

Every other block of bash or python is an example that `pytest tests/docs` runs, in order, a folder per page.
"""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import notebooks
from surroundings import ROOT, environment, prepare

LINES_ABOVE = "the lines above"
_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>output of|file|not run): (?P<value>.*?) -->\n+)?^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    """Line of its first line of text, from 1."""
    language: str
    text: str
    span: tuple[int, int]
    """Where the text stands in the page."""
    mark: str | None = None
    value: str = ""
    """What the mark says: a command, a file's name or a reason."""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """The README and every page of the site."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page in order."""
    content = page.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(content):
        yield Block(
            page=page, line=content.count("\n", 0, found.start("text")) + 1, language=found["language"],
            text=found["text"], span=found.span("text"), mark=found["mark"], value=found["value"] or "",
        )  # fmt: skip


def replay(page: Path, folder: Path) -> Iterator[tuple[Block, str]]:
    """Run the examples of a page in order, in `folder`; yields each shown output with what is printed now.

    Raises RuntimeError, with page and line, for an example that fails.
    """
    prepare(folder)
    namespace: dict[str, object] = {}
    last = ""
    found = list(blocks(page))
    for block, following in zip_longest(found, found[1:]):
        # An example whose output follows is run once, for that.
        shown_next = following is not None and following.mark == "output of" and following.value == _joined(block.text)
        if block.mark == "file":
            (folder / block.value).write_text(block.text, encoding="utf-8")
        elif block.mark == "output of":
            yield block, last if block.value == LINES_ABOVE else _shell(block, block.value, folder)
        elif block.mark is None and block.language == "python":
            last = _python(block, namespace, folder)
        elif block.mark is None and block.language == "bash" and not shown_next:
            _shell(block, block.text, folder)


def _joined(text: str) -> str:
    """A command as one line."""
    return " ".join(text.replace("\\\n", " ").split())


def _shell(block: Block, command: str, folder: Path) -> str:
    """What a command prints on a terminal of 80 columns; exit code 4 is a plan not to be relied upon, and a plan."""
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=folder, env=environment(), capture_output=True, text=True
    )
    if ended.returncode not in (0, 4):
        raise RuntimeError(f"{block}: exit code {ended.returncode}: {ended.stderr.strip()}")
    return _stripped(ended.stdout)


def _python(block: Block, namespace: dict[str, object], folder: Path) -> str:
    """What lines of Python print; names live on to the next block of the page."""
    out = io.StringIO()
    try:
        with contextlib.chdir(folder), contextlib.redirect_stdout(out):
            exec(compile("\n" * (block.line - 1) + block.text, str(block.page), "exec"), namespace)
    except Exception as error:
        raise RuntimeError(f"{block}: {type(error).__name__}: {error}") from error
    return _stripped(out.getvalue())


def _stripped(text: str) -> str:
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


def main() -> int:
    """Write what has changed; with --check, only name the pages, and return 1 if there are any."""
    check, stale = "--check" in sys.argv, []
    for page in pages():
        content = page.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as name:
            shown = list(replay(page, Path(name)))
        fresh = content
        for block, text in reversed(shown):
            start, end = block.span
            fresh = fresh[:start] + text + fresh[end:]
        if fresh != content:
            stale.append(str(page.relative_to(ROOT)))
            if not check:
                page.write_text(fresh, encoding="utf-8")
    for path in notebooks.every():
        with tempfile.TemporaryDirectory() as name:
            fresh_notebook = notebooks.executed(path, Path(name))
        if notebooks.shown(fresh_notebook) != notebooks.shown(notebooks.read(path)):
            stale.append(str(path.relative_to(ROOT)))
            if not check:
                notebooks.write(fresh_notebook, path)
    print("\n".join(stale) if stale else "every page shows what the commands print")
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main())
