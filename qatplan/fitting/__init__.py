"""Fitting laws to runs: rows, solver, intervals, diagnostics, comparison."""
