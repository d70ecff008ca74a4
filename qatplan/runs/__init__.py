"""THE table: one training run per row, and everything one may do with it.

The columns are described in `FIELDS` and pinned by `SCHEMA`; files are Parquet with verified checksums.
"""

from qatplan.runs.checks import Problem, validate
from qatplan.runs.complete import complete
from qatplan.runs.files import encode, load, write
from qatplan.runs.schema import ALIASES, DIVERGED, FIELDS, FINISHED, MEASURED, SCHEDULES, SCHEMA, STATUSES, Field
from qatplan.runs.selection import select
from qatplan.runs.table import FileProblem, Inspected, columns, digest, inspect, read, sound, table

__all__ = [
    "ALIASES", "DIVERGED", "FIELDS", "FINISHED", "MEASURED", "SCHEDULES", "SCHEMA", "STATUSES", "Field", "FileProblem",
    "Inspected", "Problem", "columns", "complete", "digest", "encode", "inspect", "load", "read", "select", "sound",
    "table", "validate", "write",
]  # fmt: skip
