"""Sweeps of curves whose runs share effects of their trunk and of their curve, simulated."""

from __future__ import annotations

from typing import Any

import numpy as np

from qatplan.laws import Inputs, Law
from support.law_examples import EFFECTIVE_TOKENS
from support.simulated import table

FREE = ("A", "C", "e0", "F", "r", "omega")
FIX = {name: value for name, value in EFFECTIVE_TOKENS.params().items() if name not in FREE}
"""What is fixed at the truth where a test needs quick fits."""


def sweep(
    seed: int, *, trunk: float, curve: float, own: float, law: Law = EFFECTIVE_TOKENS, sizes: int = 4
) -> dict[str, Any]:
    """Columns of a sweep of `sizes` sizes, 3 budgets, 4 bit widths and 7 fractions, with a control for each budget.

    `trunk`, `curve` and `own` are standard deviations of log loss.
    """
    rng = np.random.default_rng([seed, 31])
    n, d_total, bits, fraction = [], [], [], []
    for size in np.geomspace(2e4, 2e5, sizes):
        for tokens in (1e6, 2e6, 4e6):
            n, d_total, bits, fraction = [*n, size], [*d_total, tokens], [*bits, np.nan], [*fraction, 0.0]
            for b in (2, 3, 4, 6):
                for f in (0.02, 0.06, 0.15, 0.3, 0.5, 0.7, 0.9):
                    n, d_total, bits, fraction = [*n, size], [*d_total, tokens], [*bits, b], [*fraction, f]
    x = Inputs.of(n=n, d_total=d_total, bits=bits, fraction=fraction)
    trunks = np.unique(np.stack([x.n, np.round(x.d_total)]), axis=1, return_inverse=True)[1].ravel()
    curves = trunks * 10 + np.where(x.quantized, x.bits, 0).astype(int)
    shifts = (
        trunk * rng.standard_normal(trunks.max() + 1)[trunks] + curve * rng.standard_normal(curves.max() + 1)[curves]
    )
    y = law.predict(x) * np.exp(shifts + own * rng.standard_normal(len(x)))
    names = [f"trunk of {v:.0f}" for v in x.n]
    return table(x, y, seed=np.zeros(len(x)), trunk_id=names, run_id=[f"r{i}" for i in range(len(x))])
