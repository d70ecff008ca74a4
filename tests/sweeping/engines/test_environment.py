"""What a worker keeps of freed memory, and gives back at the end of a segment."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from qatplan.sweeping.engines.environment import ONE_THREAD, WORKER

# Blocks that a page above the last one holds in place would not show what the threshold does: all are freed.
PROGRAM = """
import resource
import numpy as np
from qatplan.sweeping.engines.environment import give_back_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() // 2**20

def faults_of_a_step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [np.ones(2**17) for _ in range(200)]  # 1 MiB each
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = resident()
first, second = faults_of_a_step(), faults_of_a_step()
kept = resident() - before
give_back_memory()
print(first, second, kept, resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such thresholds")
def test_a_worker_keeps_memory_for_the_next_step_and_gives_it_back_at_the_end() -> None:
    def measured(environment: dict[str, str]) -> list[int]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=own | environment, check=True, capture_output=True, text=True
        )
        return [int(number) for number in done.stdout.split()]

    first, second, kept, left = measured(WORKER)
    assert first > 10 * second
    assert kept > 190
    assert left < 20
    # The threshold that the C library starts with. Left alone it grows, and then a small block above may hold others.
    _, second, kept, _ = measured(ONE_THREAD | {"MALLOC_MMAP_THRESHOLD_": str(2**17)})
    assert second > 10_000, "every step pays for its pages"
    assert kept < 100
