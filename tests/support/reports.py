"""A report from the files of a fit and of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qatplan import runs
from qatplan.laws.fitted import FittedLaw
from qatplan.reporting.build import Report, page
from qatplan.reporting.material import gather
from qatplan.reporting.question import Question


def build(fit: Path, run_paths: Sequence[Path] = (), question: Question | None = None) -> Report:
    """The report of a fit's file; its runs are those named, or else those that the fit names."""
    table = runs.read(run_paths) if run_paths else None
    return page(gather(FittedLaw.read(fit), path=fit, table=table, names=run_paths), question)
