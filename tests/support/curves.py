"""Tables of whole loss-against-fraction curves from a loss that is known everywhere."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa

from qatplan import runs
from qatplan.laws import Inputs

FRACTIONS = (0.01, 0.03, 0.07, 0.15, 0.3, 0.5, 0.7, 0.9)
Losses = Callable[[Inputs], np.ndarray]


def curve_table(
    loss: Losses,
    *,
    sizes: tuple[float, ...] = (1e5, 3e5, 1e6),
    ratios: tuple[float, ...] = (20, 80, 320),
    bits: tuple[float, ...] = (2, 3, 4),
    fractions: tuple[float, ...] = FRACTIONS,
    seeds: tuple[int, ...] = (0,),
    noise: float = 0.0,
) -> pa.Table:
    """A runs table: per size and ratio of tokens to it a full-precision run and a curve at each bit width."""
    rng = np.random.default_rng(5)
    rows: list[dict[str, Any]] = []
    for n, ratio, seed in product(sizes, ratios, seeds):
        places: list[tuple[float | None, float]] = [(None, 0.0), *product(bits, fractions)]
        for b, f in places:
            d, qat = round(n * ratio), round(n * ratio * f)
            x = Inputs.of(n=n, d_fp=d - qat, d_qat=qat, bits=np.nan if b is None else b)
            rows.append(
                {
                    "run_id": f"run{len(rows)}", "trunk_id": f"{n:g} {d} {seed}", "n_total": round(n), "d_total": d,
                    "d_fp": d - qat, "d_qat": qat, "bits": b, "seed": seed, "status": "finished",
                    "schedule": "full-precision" if b is None else "classic",
                    "loss": float(loss(x)[0] * np.exp(noise * rng.standard_normal())),
                }
            )  # fmt: skip
    return runs.table(rows)
