"""The record of a sweep made again from its specification, where sweep.json is missing or damaged.

The ids of runs and segments are digests of all that decides them, text and numerics included. So files that are called
as this specification has them called belong to it, and nothing else does.
"""

from __future__ import annotations

from qatplan.errors import DataError, UsageError
from qatplan.runs import folder as run_folder
from qatplan.storage.base import Entry
from qatplan.sweeping.folder import SweepFolder
from qatplan.sweeping.graph import Graph, Machine, build
from qatplan.sweeping.specification import Specification
from qatplan.sweeping.tokens import found_tokens


def rebuild(specification: Specification, folder: SweepFolder, machine: Machine) -> str | None:
    """Record again whose folder this is; says so in a sentence, None where the record is there.

    Raises UsageError, before anything is changed, where the files do not prove that they belong to the specification.
    """
    lost = folder.lost_record()
    if lost is None:
        return None
    refusal = f"--out {folder.location} has no sound sweep.json, and"
    try:
        info = found_tokens(folder)[1]
    except (DataError, FileNotFoundError) as error:
        raise UsageError(f"{refusal} without its text it cannot be made again ({str(error).rstrip('.')}).") from error
    table = run_folder.check(folder.storage).table
    rows = dict(zip(*(table.column(name).to_pylist() for name in ("run_id", "device")), strict=True))
    seen = dict(zip(*(table.column(name).to_pylist() for name in ("width", "backend")), strict=True))
    backends = {width: backend for width, backend in seen.items() if width is not None and backend is not None}
    graph = build(specification, info, machine, backends)
    ours = {run.id for run in graph.runs}
    foreign = sorted(name for name, device in rows.items() if name not in ours and device in _devices(graph))
    if foreign:
        raise UsageError(f"{refusal} its run {foreign[0]} is none of this specification.")
    if not (ours & rows.keys() or graph.segments.keys() & folder.checkpoints()):
        raise UsageError(f"{refusal} no run or checkpoint in it shows that it belongs to this specification.")
    if lost == "damaged":
        folder.identity.set_aside()
    used = {str(s.config.shape.width): s.config.backend for s in graph.segments.values()}
    folder.claim(specification, used, info.digest)
    return f"{Entry(folder.storage, 'sweep.json')} was {lost}; it is made again from the specification and the runs."


def _devices(graph: Graph) -> set[str]:
    return {run.config.device for run in graph.runs}
