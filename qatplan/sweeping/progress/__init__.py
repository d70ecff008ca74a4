"""What a sweep says while it runs: on the terminal, as JSON lines, in a status file, to TensorBoard."""
