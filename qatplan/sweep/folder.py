"""The folder of a sweep: what lies where, whose it is, and what of a graph is already there.

DIR/sweep.json (whose it is), DIR/corpus, DIR/segments (checkpoints), DIR/runs (one immutable file per finished run).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qatplan import atomic, runs
from qatplan.errors import DataError, UsageError
from qatplan.sweep.graph import Graph
from qatplan.sweep.specification import Specification
from qatplan.training.segment import NUMERICS

STATE_BYTES_PER_PARAMETER = 12
"""Float32 weights and AdamW's two averages."""
SPARE_BYTES = 64 * 2**20


class SweepFolder:
    """Paths of one sweep."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def identity(self) -> Path:
        return self.path / "sweep.json"

    @property
    def corpus(self) -> Path:
        return self.path / "corpus"

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    def row(self, run_id: str) -> Path:
        """The file of a finished run."""
        return self.runs / f"{run_id}.parquet"

    def checkpoint(self, segment_id: str) -> Path:
        """The state at a segment's end."""
        return self.path / "segments" / f"{segment_id}.pt"

    def partial(self, segment_id: str) -> Path:
        """The state within an unfinished segment."""
        return self.path / "segments" / f"{segment_id}.partial.pt"

    def belongs_to(self, specification: Specification) -> None:
        """Raise unless the folder is new or belongs to this very specification; writes nothing."""
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise UsageError(f"--out {self.path} is a file; a folder is needed.")
        if not self.identity.exists():
            others = [entry.name for entry in self.path.iterdir() if entry.name not in ("lock", "corpus")]
            if others:
                raise UsageError(f"--out {self.path} is not empty and holds no sweep; name a new or empty folder.")
            return
        recorded = self._recorded()
        if recorded.get("numerics") != NUMERICS:
            raise UsageError(
                f"--out {self.path} was made by another version of the training code (numerics "
                f"{recorded.get('numerics')}, this is {NUMERICS}); name a new folder."
            )
        difference = _first_difference(recorded["specification"], describe(specification))
        if difference is not None:
            raise UsageError(f"--out {self.path} belongs to another specification: {difference} differs.")

    def claim(self, specification: Specification, backends: dict[str, str]) -> None:
        """Record whose folder this is."""
        atomic.write_json(
            self.identity,
            {"specification": describe(specification), "numerics": NUMERICS, "backends": backends},
        )

    def backends(self) -> dict[str, str]:
        """The backend of each width as recorded when the sweep began; empty for a new folder."""
        backends: dict[str, str] = self._recorded()["backends"] if self.identity.exists() else {}
        return backends

    def _recorded(self) -> dict[str, Any]:
        try:
            recorded: dict[str, Any] = json.loads(self.identity.read_text())
            recorded["specification"], recorded["backends"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.identity} cannot be read; the folder is damaged or not a sweep.") from error
        return recorded

    def finished_runs(self, graph: Graph) -> tuple[set[str], list[Path]]:
        """Ids of the runs whose row is there and sound, and the files moved aside because they were not."""
        good, bad = set(), []
        for run in graph.runs:
            path = self.row(run.id)
            if not path.exists():
                continue
            try:
                found = runs.load(path).column("run_id").to_pylist()
            except DataError:
                found = []
            if found == [run.id]:
                good.add(run.id)
            else:
                aside = path.with_suffix(".damaged")
                os.replace(path, aside)
                bad.append(aside)
        return good, bad

    def has_checkpoint(self, segment_id: str) -> bool:
        """Whether a segment's end state was saved whole (its digest is checked when it is read)."""
        path = self.checkpoint(segment_id)
        return path.exists() and path.with_suffix(".json").exists()

    def remove_temporary(self) -> None:
        """Delete what a killed process left half-written; only the holder of the lock may."""
        for stale in self.path.rglob(".*.tmp"):
            stale.unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for one driver; UsageError if another holds it. Freed by the system if the holder dies."""
        import fcntl

        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / "lock", "a+") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UsageError(f"--out {self.path} is in use by another sweep command.") from error
            yield


def check_space(folder: Path, graph: Graph) -> None:
    """Raise UsageError if the disk cannot hold the checkpoints of a graph."""
    children = graph.children()
    kept = [s for s in graph.segments.values() if children[s.id]]
    needed = SPARE_BYTES + sum(STATE_BYTES_PER_PARAMETER * s.config.shape.n_total for s in kept)
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        from qatplan.units import format_bytes

        raise UsageError(
            f"--out {folder} has {format_bytes(free)} free on its disk; the sweep may need {format_bytes(needed)}."
        )


def describe(specification: Specification) -> dict[str, Any]:
    """A specification as plain JSON values, defaults included: what decides whether two sweeps are the same."""
    described = asdict(specification)
    described["grids"] = list(described["grids"])
    for grid in described["grids"]:
        grid["qat_learning_rates"] = {str(bits): list(r) for bits, r in grid["qat_learning_rates"].items()}
    plain: dict[str, Any] = json.loads(json.dumps(described))
    return plain


def _first_difference(left: Any, right: Any, where: str = "") -> str | None:
    if isinstance(left, dict) and isinstance(right, dict):
        for key in sorted({*left, *right}):
            found = _first_difference(left.get(key), right.get(key), f"{where}.{key}" if where else key)
            if found is not None:
                return found
        return None
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for number, (a, b) in enumerate(zip(left, right, strict=True), 1):
            found = _first_difference(a, b, f"{where} {number}" if isinstance(a, dict) else where)
            if found is not None:
                return found
        return None
    return None if left == right else where
