"""TensorBoard logs of a sweep: a folder per finished run with its loss curve, and one for the sweep's own progress.

A run's folder is written under a hidden name and renamed when whole, so an interrupted command leaves none half
written and the next one adds what is missing, runs of earlier commands included.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from qatplan.errors import DataError, MissingExtra, UsageError
from qatplan.runs.files import decode
from qatplan.sweeping.engines.engine import Event
from qatplan.sweeping.folder import SweepFolder
from qatplan.sweeping.progress.progress import Watcher
from qatplan.sweeping.progress.state import Snapshot
from qatplan.units import format_count

SCALAR_SECONDS = 10.0
_UNFINISHED = re.compile(r"\.w\d+-\S+-s\d+-[0-9a-z]{8}\.tmp")
"""The hidden name of a run that is being written, see `name_of`; other files there are the user's."""
COORDINATES = ("width", "n_total", "d_total", "d_qat", "bits", "quantizer", "schedule", "learning_rate",
               "qat_learning_rate", "seed")  # fmt: skip
"""What a run is, in TensorBoard's table of hyperparameters."""


class TensorBoardLog(Watcher):
    """Writes below `path`. The first failure to write is reported, and the sweep goes on without."""

    def __init__(self, path: Path, folder: SweepFolder, finished: Iterable[str], notify: Callable[[str], None]) -> None:
        self._writer_type = _summary_writer()
        self._path, self._folder, self._notify = path, folder, notify
        self._finished = list(finished)
        self._last = 0.0
        try:
            path.mkdir(parents=True, exist_ok=True)
            for stale in path.glob(".w*.tmp"):
                if _UNFINISHED.fullmatch(stale.name) and not stale.is_symlink():
                    shutil.rmtree(stale)
            # Each command adds a file of its own to the sweep's folder; TensorBoard joins them by wall time.
            self._sweep: Any = self._writer_type(str(path / "sweep"))
        except OSError as error:
            raise UsageError(f"--tensorboard {path} cannot be written: {error.strerror}.") from error

    def begin(self, snapshot: Snapshot) -> None:
        for run_id in self._finished:
            self._guard(self._run, run_id)

    def event(self, event: Event, snapshot: Snapshot) -> None:
        if event.kind == "done" and event.segment.config.evaluate:
            self._guard(self._run, event.segment.id)

    def tick(self, snapshot: Snapshot) -> None:
        if time.monotonic() - self._last >= SCALAR_SECONDS:
            self._guard(self._progress, snapshot)

    def end(self, snapshot: Snapshot) -> None:
        self._guard(self._progress, snapshot)
        self._guard(lambda: self._sweep.close())

    def _guard(self, write: Callable[..., None], *arguments: object) -> None:
        if self._sweep is None:
            return
        try:
            write(*arguments)
        except (OSError, DataError) as error:
            self._sweep = None
            self._notify(f"--tensorboard {self._path}: {error}; the sweep goes on without it.")

    def _progress(self, snapshot: Snapshot) -> None:
        self._last = time.monotonic()
        second = round(snapshot.seconds)
        if snapshot.tokens_per_second is not None:
            self._sweep.add_scalar("sweep/tokens_per_second", snapshot.tokens_per_second, second)
        self._sweep.add_scalar("sweep/recorded", snapshot.recorded, second)
        self._sweep.add_scalar("sweep/failed_attempts", snapshot.retried + snapshot.given_up, second)
        self._sweep.flush()

    def _run(self, run_id: str) -> None:
        entry = self._folder.row(run_id)
        row = decode(entry.read(), str(entry))[0].to_pylist()[0]
        final = self._path / name_of(row)
        if final.exists():
            return
        hidden = self._path / f".{final.name}.tmp"
        with self._writer_type(str(hidden)) as writer:
            for point in row["curve"]:
                writer.add_scalar("loss/train", point["loss"], point["tokens"])
            if row["loss"] is not None:
                writer.add_scalar("loss/validation", row["loss"], row["d_total"])
            known = {name: row[name] for name in COORDINATES if row[name] is not None}
            result = {} if row["loss"] is None else {"loss/validation": row["loss"]}
            writer.add_hparams({**known, "status": row["status"]}, result, run_name=".", global_step=row["d_total"])
        os.replace(hidden, final)


def name_of(row: dict[str, Any]) -> str:
    """The name of a run in TensorBoard: what it is, and enough of its id to be the only one."""
    parts = [f"w{row['width']}", format_count(row["d_total"])]
    if row["bits"] is not None:
        parts += [f"{row['bits']:g}bit", f"f{row['d_qat'] / row['d_total']:.2g}"]
    name = "-".join([*parts, row["schedule"], f"s{row['seed']}", row["run_id"][:8]])
    return name.replace("/", "_").replace("\\", "_")  # a row may be a stranger's


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtra('--tensorboard needs the tensorboard extra: pip install "qatplan[tensorboard]".') from error
    return SummaryWriter
