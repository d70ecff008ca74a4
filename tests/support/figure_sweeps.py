"""Simulated sweeps with a known truth: the unified law with made-up coefficients, small noise, and an f = 0 end."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from qatplan.laws.inputs import Inputs
from qatplan.laws.qat_loss import QatLoss

TRUTH = QatLoss(
    E=0.80, A=40.0, alpha=0.42, C=60.0, beta=0.33, theta=0.25, kappa=0.9, phi=0.9, chi=0.75, psi=0.05, omega=0.55,
    lam=0.6, mu=0.3, nu=0.02, xi=0.45, rho=0.05,
)  # fmt: skip
"""Coefficients of ours, chosen to look like byte-level models of 30 thousand to a million parameters."""

FRACTIONS = (0.0, 0.01, 0.03, 0.07, 0.15, 0.3, 0.5, 0.75, 1.0)


def simulated_rows(
    sizes: tuple[int, ...] = (32_000, 96_000, 350_000),
    ratios: tuple[float, ...] = (30.0, 90.0, 300.0),
    bits: tuple[float, ...] = (1.0, 2.0, 4.0),
    fractions: tuple[float, ...] = FRACTIONS,
    seeds: tuple[int, ...] = (0,),
    noise: float = 0.0015,
    schedules: tuple[str, ...] = ("classic",),
    diverge: frozenset[tuple[float, float]] = frozenset(),
) -> list[dict[str, Any]]:
    """Rows in our fields. `diverge` holds (bits, fraction) of runs that end without a loss."""
    rng = np.random.default_rng(7)
    rows: list[dict[str, Any]] = []
    for n, ratio, seed in product(sizes, ratios, seeds):
        d = int(n * ratio) // 64 * 64
        shift = 0.002 * rng.standard_normal()
        control = float(TRUTH.predict(Inputs.of(n=n, d_total=d))[0]) + shift
        made: list[dict[str, Any]] = [{"d_qat": 0, "loss": control, "schedule": "full-precision"}]
        for b, f in product(bits, fractions):
            if f == 0.0:
                rounded = control + 1.9 * 2.0 ** (-1.05 * b)
                made.append({"d_qat": 0, "loss": rounded, "bits": b, "schedule": "post-training", "quantizer": "rtn"})
                continue
            law = float(TRUTH.predict(Inputs.of(n=n, d_total=d, bits=b, fraction=min(f, 0.995)))[0])
            for schedule in schedules:
                gain = 0.0 if schedule == "classic" else 0.004
                loss = law + shift + noise * rng.standard_normal() - gain
                made.append(
                    {"d_qat": round(d * f), "loss": None if (b, f) in diverge else loss, "bits": b,
                     "schedule": schedule, "quantizer": "paretoq", "qat_learning_rate": 0.5}
                )  # fmt: skip
        for row in made:
            final = row["loss"]
            shared = {
                "run_id": f"run{len(rows):05d}", "n_total": n, "n_nonembedding": n - 8192, "n_embedding": 8192,
                "d_total": d, "d_fp": d - row["d_qat"], "seed": seed, "trunk_id": f"trunk-{n}-{seed}",
                "learning_rate": 0.003, "loss_se": None if final is None else 0.004,
                "status": "diverged" if final is None else "finished", "curve": _curve(d, final or 2.0),
            }  # fmt: skip
            rows.append(shared | row)
    return rows


def _curve(d_total: int, final: float) -> list[dict[str, float]]:
    return [
        {"tokens": int(d_total * s), "loss": final + 1.5 * (1 - s) ** 2 + 0.05} for s in (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    ]
