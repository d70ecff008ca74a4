"""Tables of runs from anywhere (CSV, JSON, JSON Lines, Parquet; W&B and MLflow exports) into the schema of `runs`."""
