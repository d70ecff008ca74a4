"""From a fitted law to decisions: shapes, memory, cost, predictions and recommendations. It never fits.

The public names load on first use, so that asking for a file's size does not load the laws.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qatplan.planning.config_file import from_config
    from qatplan.planning.costs import Cost, Rates, cost, device
    from qatplan.planning.fraction_only import FractionAdvice, advise
    from qatplan.planning.layout import Layout, infer, of_architecture
    from qatplan.planning.memory import Memory, estimate
    from qatplan.planning.prediction import Prediction, predict
    from qatplan.planning.presets import PRESETS, preset
    from qatplan.planning.problem import Problem
    from qatplan.planning.recommendation import Recommendation, recommend
    from qatplan.planning.shapes import Architecture, Parameters

_HOME = {
    "Architecture": "shapes",
    "Cost": "costs",
    "FractionAdvice": "fraction_only",
    "Layout": "layout",
    "Memory": "memory",
    "PRESETS": "presets",
    "Parameters": "shapes",
    "Prediction": "prediction",
    "Problem": "problem",
    "Rates": "costs",
    "Recommendation": "recommendation",
    "advise": "fraction_only",
    "cost": "costs",
    "device": "costs",
    "estimate": "memory",
    "from_config": "config_file",
    "infer": "layout",
    "of_architecture": "layout",
    "predict": "prediction",
    "preset": "presets",
    "recommend": "recommendation",
}

__all__ = [
    "PRESETS",
    "Architecture",
    "Cost",
    "FractionAdvice",
    "Layout",
    "Memory",
    "Parameters",
    "Prediction",
    "Problem",
    "Rates",
    "Recommendation",
    "advise",
    "cost",
    "device",
    "estimate",
    "from_config",
    "infer",
    "of_architecture",
    "predict",
    "preset",
    "recommend",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
