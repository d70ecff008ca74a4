"""One thread per process: the tests run in as many processes as there are cores."""

from __future__ import annotations

import os

# Before anything loads a linear-algebra library.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
