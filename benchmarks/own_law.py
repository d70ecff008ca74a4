"""Time of a fit of a law of one's own over that of the same law built in, on the same rows, in one run.

    python benchmarks/own_law.py [--repeats 5]

Each law of qatplan below is also written as a formula, with the same domains and starts. Rows are simulated, as in
`benchmarks/fit.py`; both fits search from the same number of starts, and 200 bootstrap draws follow. Times are CPU
seconds of this process, the least of the repeats, which alternate. The objective shows that both end at one optimum.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from qatplan.fitting.intervals.bootstrap import draw
from qatplan.fitting.rows import Rows, select
from qatplan.fitting.solver.problem import build
from qatplan.fitting.solver.solve import Solution, solve
from qatplan.laws import Chinchilla, Inputs, Law, Precision, QatLoss, get
from qatplan.laws.own.file import made
from qatplan.laws.registry import NAMES

DELTA = 1e-3
_BASE = "E + A/N^alpha + C/D^beta"
FORMULAS = {
    "chinchilla": _BASE,
    "qat-loss": _BASE + " + quantized*theta*2^(-kappa*bits) + quantized*phi*2^(-chi*bits)/(N^psi*S_qat^omega)"
    " + quantized*lam*2^(-mu*bits)/(N^nu*S_fp^xi*S_qat^rho)",
    "precision": "E + A/(N*(1 - trained*exp(-bits/gamma_w)))^alpha + C/D^beta"
    " + rounded*C_T*D^gD/N^gN*exp(-bits/gamma_post)",
}  # fmt: skip
TRUE: dict[str, Law] = {
    "chinchilla": Chinchilla.published(),
    "qat-loss": QatLoss(
        E=1.8, A=480.0, alpha=0.35, C=2000.0, beta=0.37, theta=0.25, kappa=1.2, phi=4.0, chi=0.7, psi=0.12, omega=0.45,
        lam=2.0, mu=0.6, nu=0.1, xi=0.6, rho=0.15,
    ),
    "precision": Precision.published(),
}  # fmt: skip


def twin(name: str) -> type[Law]:
    """A built-in law as a formula, with its own domains and starts."""
    parameters: dict[str, dict[str, Any]] = {}
    for p in get(name).declared():
        parameters[p.name] = {"domain": (p.lower, p.upper), "unit": p.unit, "meaning": p.meaning}
        if not p.scales:
            parameters[p.name]["start"] = p.start
    return made({"formula": FORMULAS[name], "parameters": parameters}, name=f"own-{name}", taken=NAMES)


def rows_of(name: str, count: int = 400, noise: float = 0.003) -> Rows:
    """Simulated runs that the law describes."""
    rng = np.random.default_rng(0)
    n = rng.choice([86e6, 194e6, 396e6, 759e6, 1.5e9, 2.2e9], count)
    quantized = np.zeros(count, np.bool_) if name == "chinchilla" else rng.random(count) < 0.85
    bits = np.where(quantized, rng.choice([1.0, 2.0, 3.0, 4.0, 6.0], count), np.nan)
    fraction = np.where(quantized, rng.choice([0.05, 0.1, 0.3, 0.6, 0.9], count), 0.0)
    if name == "precision":
        fraction = np.where(quantized & (rng.random(count) < 0.3), 0.0, fraction)
    x = Inputs.of(n=n, d_total=n * rng.choice(np.geomspace(20, 600, 8), count), bits=bits, fraction=fraction)
    y = TRUE[name].predict(x) * np.exp(noise * rng.standard_normal(count))
    columns = {"n_total": x.n, "d_fp": x.d_fp, "d_qat": x.d_qat, "bits": x.bits, "loss": y}
    return select(columns, name, shape=get(name))


def solved(kind: type[Law], rows: Rows) -> Solution:
    """The best fit of a law to rows."""
    return solve(build(kind.for_inputs(rows.x), rows.x, rows.y), delta=DELTA, seed=0, starts=16)


def timed(kind: type[Law], rows: Rows) -> tuple[float, float, Solution]:
    """CPU seconds of the fit and of its draws, and the fit."""
    begin = time.process_time()
    solution = solved(kind, rows)
    fitted = time.process_time()
    draw(solution, rows, count=200, seed=0, delta=DELTA)
    return fitted - begin, time.process_time() - fitted, solution


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every pair and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args(arguments)
    print(f"{'law':<12} {'built in':>10} {'own':>10} {'ratio':>7} {'with draws':>11}  objectives differ by")
    for name in FORMULAS:
        rows, own = rows_of(name), twin(name)
        pairs = [(timed(get(name), rows), timed(own, rows)) for _ in range(chosen.repeats)]
        fits = [min(pair[i][0] for pair in pairs) for i in (0, 1)]
        whole = [min(pair[i][0] + pair[i][1] for pair in pairs) for i in (0, 1)]
        best = [pairs[0][i][2].objective for i in (0, 1)]
        print(
            f"{name:<12} {fits[0]:8.3f} s {fits[1]:8.3f} s {fits[1] / fits[0]:6.2f}x {whole[1] / whole[0]:10.2f}x"
            f"  {abs(best[1] / best[0] - 1):.1g}",
            flush=True,
        )


if __name__ == "__main__":
    main()
