"""Fitting laws to runs: problem, solver, uncertainty, criticism, comparison."""

from qatplan.fitting.compare import Comparison, compare
from qatplan.fitting.fit import fit

__all__ = ["Comparison", "compare", "fit"]
