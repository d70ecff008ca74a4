"""Where examples run: a folder that looks like the root of the repository, and a terminal of 80 columns."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]


def prepare(folder: Path) -> None:
    """Give `folder` the data, fits and benchmarks of the repository under their names."""
    for name in ("data", "fits", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)


def environment() -> dict[str, str]:
    """This process's variables, with this repository first on Python's path, whatever else is installed."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "PYTHONPATH": path}
