"""The names of the package are its functions, whatever was imported before."""

from __future__ import annotations

import importlib
import inspect

import qatplan as qp


def test_a_folder_does_not_hide_the_function_of_its_name() -> None:
    for name in ("qatplan.reporting.build", "qatplan.sweeping.plan"):
        importlib.import_module(name)
    assert all(inspect.isfunction(getattr(qp, name)) for name in qp.__all__)
