"""Scaling laws: one law per file, pure NumPy."""

from qatplan.laws.chen2025 import Chen2025
from qatplan.laws.chinchilla import Chinchilla
from qatplan.laws.chinchilla_per_bits import ChinchillaPerBits
from qatplan.laws.effective import Effective
from qatplan.laws.effective_tokens import EffectiveTokens
from qatplan.laws.fitted import FittedLaw, Status
from qatplan.laws.inputs import Inputs
from qatplan.laws.law import Law, Parameter
from qatplan.laws.optimum import Optimum, optimal_fraction
from qatplan.laws.ouyang import Ouyang
from qatplan.laws.precision import Precision
from qatplan.laws.qat_fraction import QatFraction
from qatplan.laws.qat_loss import QatLoss
from qatplan.laws.registry import NAMES, get

__all__ = [
    "NAMES", "Chen2025", "Chinchilla", "ChinchillaPerBits", "Effective", "EffectiveTokens", "FittedLaw", "Inputs",
    "Law", "Optimum", "Ouyang", "Parameter", "Precision", "QatFraction", "QatLoss", "Status", "get", "optimal_fraction",
]  # fmt: skip
