"""The folder of a sweep: what lies where, whose it is, and what of a graph is already there.

DIR/sweep.json (whose it is), DIR/corpus, DIR/segments (checkpoints), DIR/runs (one immutable file per finished run),
DIR/merged.parquet (a copy of many of them, quick to read). DIR may be a folder of an object store.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from qatplan.errors import DataError, UsageError
from qatplan.runs import folder as run_folder
from qatplan.runs.folder import Checked
from qatplan.storage.base import Entry, Location
from qatplan.storage.incoming import parse_json
from qatplan.storage.open import open_storage
from qatplan.storage.typed import parse
from qatplan.sweeping.graph import Graph
from qatplan.sweeping.specification import Grid, Specification, Training
from qatplan.training.corpus.corpus import Source
from qatplan.training.segment import numerics
from qatplan.units import format_bytes

STATE_BYTES_PER_PARAMETER = 12
"""Float32 weights and AdamW's two averages."""
SPARE_BYTES = 64 * 2**20
END, PARTIAL = ".pt", ".partial.pt"


OURS = {"corpus", "runs", "segments", "status.json", "sweep.json.damaged", run_folder.MERGED}
"""What lies in a sweep's folder beside its record and its locks."""


@dataclass(frozen=True, kw_only=True)
class _Described:
    """A specification as `describe` wrote it."""

    corpus: dict[str, Any]
    training: dict[str, Any]
    grids: tuple[dict[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class _Record:
    """What sweep.json says."""

    specification: _Described
    numerics: str
    backends: dict[str, str]
    corpus: str | None = ""
    """None while the text is still to be made, nothing in a folder of a version that did not record it."""


class SweepFolder:
    """The files of one sweep."""

    def __init__(self, location: Location) -> None:
        self.storage = open_storage(location)

    @property
    def location(self) -> str:
        """What opens the same folder in another process."""
        return self.storage.location

    @property
    def identity(self) -> Entry:
        return Entry(self.storage, "sweep.json")

    def row(self, run_id: str) -> Entry:
        """The file of a finished run."""
        return Entry(self.storage, f"runs/{run_id}.parquet")

    def checkpoint(self, segment_id: str) -> Entry:
        """The state at a segment's end."""
        return Entry(self.storage, f"segments/{segment_id}{END}")

    def partial(self, segment_id: str) -> Entry:
        """The state within an unfinished segment."""
        return Entry(self.storage, f"segments/{segment_id}{PARTIAL}")

    def checkpoints(self) -> set[str]:
        """Ids of the segments whose end was saved (digests are checked when a state is read)."""
        names = self.storage.names("segments")
        return {name.removesuffix(END) for name in names if name.endswith(END) and not name.endswith(PARTIAL)}

    def remove_states(self, segments: Iterable[str]) -> None:
        """Delete the states of these segments; whatever else lies there is not ours to delete."""
        there = self.storage.names("segments")
        for segment in segments:
            for state in (self.checkpoint(segment), self.partial(segment)):
                if state.name in there:
                    state.remove()

    def remove_temporary(self) -> None:
        """Delete what killed commands left half-written; only the holder of the folder may."""
        self.storage.remove_temporary("runs", "segments", "corpus")

    def belongs_to(self, specification: Specification) -> None:
        """Raise unless the folder is new or belongs to this very specification; writes nothing.

        A folder of runs without its record passes: `qatplan.sweeping.rebuild` looks at its rows.
        """
        self.storage.check()
        if self.lost_record() is not None:
            return
        recorded = self._recorded()
        if recorded is None or recorded.corpus is None:
            return  # a new folder, or an earlier command ended before it had the text
        own = _numerics(specification)
        if recorded.numerics != own:
            raise UsageError(
                f"--out {self.location} was made by another version of the training code (numerics "
                f"{recorded.numerics}, this is {own}); name a new folder."
            )
        difference = _first_difference(_completed(recorded.specification), describe(specification))
        if difference is not None:
            raise UsageError(f"--out {self.location} belongs to another specification: {difference} differs.")

    def finished_runs(self, graph: Graph) -> tuple[set[str], list[str]]:
        """Ids of a graph's runs whose row is there and sound; what is not is set aside and named, a sentence each.

        Rows of other runs are set aside too, unless they were trained on another device, where runs have other names.
        """
        checked = run_folder.check(self.storage)
        bad = dict(checked.bad)
        expected = {run.id: run.config.device for run in graph.runs}
        devices = set(expected.values())
        rows = dict(zip(*(checked.table.column(name).to_pylist() for name in ("run_id", "device")), strict=True))
        for name, device in rows.items():
            if name not in expected and device in devices:
                bad[name] = f"{self.row(name)} is foreign: this sweep has no such run."
        remarks = [
            f"{problem.rstrip('.')}; it is now {self.row(name).set_aside().name}." for name, problem in bad.items()
        ]
        if checked.damage:
            aside = Entry(self.storage, run_folder.MERGED).set_aside()
            what = f"{checked.damage.rstrip('.')}; it is now {aside.name}"
            remarks.append(f"{what}, and the rows are read from their own files.")
        if checked.unmerged >= run_folder.MERGE_FROM and not bad:
            run_folder.merge(self.storage, checked)
        return rows.keys() & expected.keys(), remarks

    def merge_runs(self) -> Checked:
        """The rows that are there, merged into one file if many are not yet."""
        checked = run_folder.check(self.storage)
        if checked.unmerged >= run_folder.MERGE_FROM:
            run_folder.merge(self.storage, checked)
        return checked

    def claim(self, specification: Specification, backends: Mapping[str, str], corpus: str | None) -> None:
        """Record whose folder this is; `corpus` is the digest of its tokens, None where they are still to be made."""
        identity = {
            "specification": describe(specification),
            "numerics": _numerics(specification),
            "backends": dict(backends),
            "corpus": corpus,
        }
        content = (json.dumps(identity, indent=2, ensure_ascii=False) + "\n").encode()
        if not self.identity.exists() or self.identity.read() != content:
            self.identity.write(content)

    def lost_record(self) -> str | None:
        """What became of the record of a folder that has the files of a sweep: missing or damaged; None if it is there.

        UsageError for a folder of something else, and no record. Files beside, such as a fit, do not matter.
        """
        found = self.storage.names()
        names = {name for name in found if name != "lock" and not name.startswith("lock.")}
        foreign = {name for name in names - OURS if found[name] is None}
        sweeps = not foreign and (self.checkpoints() or self.storage.names("runs"))
        try:
            if self._recorded() is not None or not names:
                return None
        except DataError:
            if not sweeps:
                raise
            return "damaged"
        if not sweeps:
            raise UsageError(f"--out {self.location} is not empty and holds no sweep; name a new or empty folder.")
        return "missing"

    def backends(self) -> dict[int, str]:
        """The backend of each width as recorded when the sweep began; empty for a new folder."""
        recorded = self._recorded()
        return {} if recorded is None else {int(width): backend for width, backend in recorded.backends.items()}

    def is_new(self) -> bool:
        """Whether no sweep has begun here."""
        return self._recorded() is None

    def corpus_digest(self) -> str | None:
        """The digest of the tokens as recorded when the sweep began; None for a new folder."""
        recorded = self._recorded()
        return (recorded.corpus or None) if recorded is not None else None

    def _recorded(self) -> _Record | None:
        """What `claim` wrote; None for a new folder."""
        try:
            recorded = parse(_Record, parse_json(self.identity.read()))
            if not all(width.isdecimal() for width in recorded.backends):
                raise ValueError("backends has a key that is no width")
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise DataError(f"{self.identity} is damaged, or the folder is no sweep: {error}.") from error
        return recorded


def check_space(folder: SweepFolder, graph: Graph) -> None:
    """Raise UsageError if the disk cannot hold the checkpoints of a graph."""
    free = folder.storage.free_bytes()
    if free is None:
        return
    children = graph.children()
    kept = [s for s in graph.segments.values() if children[s.id]]
    needed = SPARE_BYTES + sum(STATE_BYTES_PER_PARAMETER * s.config.shape.n_total for s in kept)
    if free < needed:
        raise UsageError(
            f"--out {folder.location} has {format_bytes(free)} free on its disk; the sweep may need "
            f"{format_bytes(needed)}."
        )


def describe(specification: Specification) -> dict[str, Any]:
    """A specification as plain JSON values, defaults included: what decides whether two sweeps are the same."""
    described = asdict(specification)
    described["grids"] = list(described["grids"])
    for grid in described["grids"]:
        grid["qat_learning_rates"] = {str(bits): list(r) for bits, r in grid["qat_learning_rates"].items()}
    plain: dict[str, Any] = json.loads(json.dumps(described))
    return plain


def _completed(recorded: _Described) -> dict[str, Any]:
    """A specification as `describe` left it, perhaps before keys were added: those have their defaults."""
    defaults = describe(Specification(corpus=Source(), training=Training(), grids=(Grid(widths=()),)))
    return {
        "corpus": recorded.corpus,
        "training": {**defaults["training"], **recorded.training},
        "grids": [{**defaults["grids"][0], **grid} for grid in recorded.grids],
    }


def _numerics(specification: Specification) -> str:
    return numerics(name for grid in specification.grids for name in (*grid.quantizers, *grid.activation_quantizers))


def _first_difference(left: Any, right: Any, where: str = "") -> str | None:
    pairs: list[tuple[Any, Any, str]] = []
    if isinstance(left, dict) and isinstance(right, dict):
        pairs = [(left.get(k), right.get(k), f"{where}.{k}" if where else k) for k in sorted({*left, *right})]
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        numbered = enumerate(zip(left, right, strict=True), 1)
        pairs = [(a, b, f"{where} {number}" if isinstance(a, dict) else where) for number, (a, b) in numbered]
    elif left != right:
        return where
    return next(filter(None, (_first_difference(*pair) for pair in pairs)), None)
