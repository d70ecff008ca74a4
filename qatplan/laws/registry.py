"""All laws by name."""

from __future__ import annotations

import os
from typing import Any

from qatplan.errors import UsageError
from qatplan.laws.chen2025 import Chen2025
from qatplan.laws.chinchilla import Chinchilla
from qatplan.laws.chinchilla_per_bits import ChinchillaPerBits
from qatplan.laws.effective import Effective
from qatplan.laws.effective_tokens import EffectiveTokens
from qatplan.laws.fraction_surface import FractionSurface
from qatplan.laws.law import Law
from qatplan.laws.ouyang import Ouyang
from qatplan.laws.precision import Precision
from qatplan.laws.qat_fraction import QatFraction
from qatplan.laws.qat_loss import QatLoss

_LAWS: tuple[type[Law], ...] = (
    Chinchilla, QatLoss, EffectiveTokens, QatFraction, FractionSurface, Chen2025, Precision, Effective, Ouyang,
    ChinchillaPerBits,
)  # fmt: skip
_BY_NAME = {law.name: law for law in _LAWS}
NAMES: tuple[str, ...] = tuple(_BY_NAME)


def get(law: str | os.PathLike[str] | type[Law]) -> type[Law]:
    """The type of a law by its name, from the TOML file that describes it, or as it is.

    Raises UsageError naming the laws that exist, or what is wrong with the file.
    """
    if isinstance(law, type):
        return law
    if os.fspath(law).endswith(".toml"):
        from qatplan.laws.own.file import read

        return read(law, NAMES)
    return _named(os.fspath(law))


def stored(name: str, definition: Any) -> type[Law]:
    """The law of a fit's file, whose `definition` is None for a law of qatplan. Raises UsageError or ValueError."""
    if definition is None:
        return _named(name)
    from qatplan.laws.own.definition import Definition
    from qatplan.laws.own.law import law_of
    from qatplan.storage.typed import parse

    made = parse(Definition, definition, "definition")
    if made.name != name or name in NAMES:
        raise ValueError(f"definition.name is {made.name!r}, and the law is {name!r}")
    return law_of(made)


def _named(name: str) -> type[Law]:
    if name not in _BY_NAME:
        raise UsageError(f"no law is called {name!r}; the laws are {', '.join(NAMES)}, or FILE.toml is one of your own")
    return _BY_NAME[name]
