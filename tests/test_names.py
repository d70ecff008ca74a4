"""A folder of the name of a function would hide it as soon as something imports the folder."""

from __future__ import annotations

import pkgutil

import qatplan as qp


def test_no_folder_has_the_name_of_a_function() -> None:
    assert not {module.name for module in pkgutil.iter_modules(qp.__path__)} & set(qp.__all__)
