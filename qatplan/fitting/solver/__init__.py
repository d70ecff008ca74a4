"""One batched trust-region Newton solver for all laws."""
