"""qatplan: how much of a token budget goes to quantization-aware training, at which bit width, and how sure we are.

import qatplan as qp
runs = qp.read("data/main/runs.parquet")
fit = qp.fit(runs, law="qat-loss", bootstrap=1000)
plan = qp.recommend(fit, memory="4GiB", tokens="1T", bits=(2, 3, 4))
"""

# Nothing is imported here: `python -m qatplan` loads this before it can keep a `typing.py` of the current folder away.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from qatplan.api import (
        compare,
        design,
        fit,
        import_runs,
        law,
        load,
        memory,
        plot,
        predict,
        read,
        recommend,
        report,
        sweep,
    )

__version__ = "0.1.0"
__all__ = [
    "compare",
    "design",
    "fit",
    "import_runs",
    "law",
    "load",
    "memory",
    "plot",
    "predict",
    "read",
    "recommend",
    "report",
    "sweep",
]


def __getattr__(name: str) -> "Any":
    if name not in __all__:
        raise AttributeError(f"module 'qatplan' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module("qatplan.api"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
