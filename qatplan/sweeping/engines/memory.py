"""How much memory a segment takes and how much there is, so that no more workers train at once than fit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from qatplan.sweeping.graph import Segment

PROCESS_BYTES = 350 * 2**20
BYTES_PER_PARAMETER = 70
BYTES_PER_TOKEN_AND_UNIT = 110
BYTES_PER_LOGIT = 20
"""Measured with torch 2.13 on Linux as the peak of a process that trains, saves and evaluates a QAT segment, at widths
16 to 512 and 32 to 32,768 tokens a step: the estimate is from 1 % below the peak to 9 % above it."""
RESERVE = 0.1
"""Share of the memory available at the start that is left to everything else."""


def segment_bytes(segment: Segment) -> int:
    """Peak resident memory of a worker process that executes a segment on the CPU."""
    config = segment.config
    shape, tokens = config.shape, config.sequences * config.sequence
    activations = BYTES_PER_TOKEN_AND_UNIT * shape.layers * shape.width + BYTES_PER_LOGIT * shape.vocabulary
    return PROCESS_BYTES + BYTES_PER_PARAMETER * shape.n_total + tokens * activations


def available_bytes() -> int:
    """Memory that could still be taken: what the system says, or less if a container sets a limit."""
    found = [system_bytes(), *(limit for limit in [_cgroup_bytes(Path("/sys/fs/cgroup"))] if limit is not None)]
    return min(found)


def system_bytes() -> int:
    """Memory available on the machine; all that it has where the system does not say how much is free."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _cgroup_bytes(root: Path) -> int | None:
    """What the limit of this process's own group leaves (version 2), or None if there is none."""
    try:
        own = Path("/proc/self/cgroup").read_text().strip().rsplit("::", 1)[-1].lstrip("/")
        # In a container the path is often that of the host, and the group itself is mounted at the root.
        group = next(folder for folder in (root / own, root) if (folder / "memory.max").exists())
        limit = (group / "memory.max").read_text().strip()
        if limit == "max":
            return None
        used = int((group / "memory.current").read_text())
        cached = next(
            int(line.split()[1])
            for line in (group / "memory.stat").read_text().splitlines()
            if line.startswith("inactive_file ")
        )
        return max(0, int(limit) - used + cached)
    except (OSError, StopIteration, ValueError):
        return None


class Budget:
    """Who may start now. A segment that does not fit beside the others waits; alone it may always try."""

    def __init__(self, available: int) -> None:
        self.available = int(available * (1 - RESERVE))
        self._running: dict[str, int] = {}
        self._failures: dict[str, int] = {}

    def fits(self, stack: Sequence[Segment]) -> bool:
        """Whether segments can start together beside those that are running."""
        alone = not self._running and len(stack) == 1
        return alone or sum(self._running.values()) + sum(map(self._demand, stack)) <= self.available

    def start(self, segment: Segment) -> None:
        """Count a segment as running."""
        self._running[segment.id] = self._demand(segment)

    def end(self, segment: Segment, *, failed: bool) -> None:
        """Count it no longer. One that failed is given twice the room next time: it may have run out of memory."""
        del self._running[segment.id]
        if failed:
            self._failures[segment.id] = self._failures.get(segment.id, 0) + 1

    def _demand(self, segment: Segment) -> int:
        return segment_bytes(segment) << self._failures.get(segment.id, 0)
