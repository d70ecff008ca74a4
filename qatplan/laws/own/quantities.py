"""What a formula may name: the quantities of a run, and conditions that switch a part of the formula on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from qatplan.laws.inputs import Floats, Inputs


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A quantity of a run."""

    meaning: str
    unit: str
    at: Callable[[Inputs], Floats]
    """(rows,); NaN where a run has none."""
    of: str
    """The field of `Inputs` whose variation it follows."""
    low: float = 0.0
    high: float = np.inf
    lacking: str = ""
    """What a run without it lacks."""


_NO_BITS = "no bit width, and the formula names {} outside a product with quantized, trained or rounded"
_NO_GROUP = "no group size, and the formula names {}"
QUANTITIES: dict[str, Quantity] = {
    "N": Quantity(meaning="parameters", unit="parameters", at=lambda x: x.n, of="n"),
    "D": Quantity(meaning="tokens of both phases", unit="tokens", at=lambda x: x.d_total, of="d_total"),
    "D_fp": Quantity(meaning="tokens in full precision", unit="tokens", at=lambda x: x.d_fp, of="d_fp"),
    "D_qat": Quantity(meaning="tokens with quantized weights", unit="tokens", at=lambda x: x.d_qat, of="d_qat"),
    "f": Quantity(meaning="the QAT fraction D_qat/D", unit="1", at=lambda x: x.fraction, of="d_qat", high=1.0),
    "bits": Quantity(meaning="bits of a weight", unit="bits", at=lambda x: x.bits, of="bits", lacking=_NO_BITS),
    "S": Quantity(
        meaning="D over the bytes of the weights, N*bits/8", unit="tokens/byte", at=lambda x: x.s_total, of="s_total",
        lacking=_NO_BITS,
    ),
    "S_fp": Quantity(
        meaning="D_fp over the same", unit="tokens/byte", at=lambda x: x.s_fp, of="d_fp", lacking=_NO_BITS
    ),
    "S_qat": Quantity(
        meaning="D_qat over the same", unit="tokens/byte", at=lambda x: x.s_qat, of="d_qat", lacking=_NO_BITS
    ),
    "G": Quantity(
        meaning="weights that share one step", unit="weights", at=lambda x: x.group_size, of="group_size", low=1.0,
        lacking=_NO_GROUP,
    ),
}  # fmt: skip
CONDITIONS: dict[str, tuple[str, Callable[[Inputs], np.ndarray]]] = {
    "quantized": ("the run has a bit width", lambda x: x.quantized),
    "trained": ("it has, and trained with it: D_qat > 0", lambda x: x.quantized & (x.d_qat > 0)),
    "rounded": ("it has, and was rounded after training: D_qat = 0", lambda x: x.quantized & (x.d_qat == 0)),
}
"""1 where the condition holds, else 0; what is multiplied by 0 counts for nothing, even where it has no value."""
SPLIT = frozenset({"D_fp", "D_qat", "f", "S_fp", "S_qat"})
"""A formula that names one of these sees how the tokens are split."""
SEES_BITS = frozenset({*SPLIT, *CONDITIONS, "bits", "S", "G"})
"""One that names none of these sees nothing of quantization."""
