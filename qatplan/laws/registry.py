"""All laws by name."""

from __future__ import annotations

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


def get(name: str) -> type[Law]:
    """The law's type; raises UsageError naming the laws that exist."""
    if name not in _BY_NAME:
        raise UsageError(f"no law is called {name!r}; the laws are {', '.join(NAMES)}")
    return _BY_NAME[name]
