"""The notebooks of examples/: run them, and say what they show."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient
from surroundings import ROOT, environment, prepare


def every() -> list[Path]:
    """The notebooks that are there."""
    return sorted((ROOT / "examples").glob("*.ipynb"))


def read(path: Path) -> nbformat.NotebookNode:
    """A notebook with the outputs that were kept."""
    notebook: nbformat.NotebookNode = nbformat.read(path, as_version=4)
    return notebook


def write(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Keep a notebook with its outputs."""
    nbformat.write(notebook, path)


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook with its outputs made anew, in `folder`; CellExecutionError where a cell fails."""
    prepare(folder)
    notebook = read(path)
    places = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", record_timing=False, resources=places)
    client.execute(env=environment())
    # The kernel writes there which Python it is.
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def shown(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """What each cell of code shows as text, in order; of a figure, that there is one."""
    return [
        [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
