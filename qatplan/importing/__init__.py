"""Tables of runs from anywhere (CSV, JSON, JSON Lines, Parquet; W&B and MLflow exports) into the schema of `runs`."""

from qatplan.importing.importer import MAPPABLE, Imported, import_runs
from qatplan.importing.traps import Objection

__all__ = ["MAPPABLE", "Imported", "Objection", "import_runs"]
