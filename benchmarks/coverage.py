"""How often 95 % intervals hold the truth, in simulation from known laws.

    python benchmarks/coverage.py [--replications 500] [--first 0] [--draws 300] [--workers 1] [--scenario NAME ...]

Scenarios: `chinchilla` (240 runs, independent noise), `qat-loss` (302 runs of a thinned sweep, independent noise),
`sweep` (the same with an effect that the runs of a trunk share: 5 sizes times 2 seeds), `shipped` (the law, the 260
runs and the noise of the shipped sweep), and two negative controls: `misspecified` (losses bend with N in a way that no
Chinchilla law has) and `weak` (`sweep` with noise as large as what the split of the tokens is worth, so that the rows
hardly determine it). Per quantity it prints the share of replications whose interval holds the truth, how wide the
median interval is and the widest but one in twenty (1: the width that holds the middle 95 % of all estimates; an
interval that holds the truth since it is too wide is no good either), and whether a binomial test at 1 % contradicts
95 %.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import repeat
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from qatplan import runs
from qatplan.fitting.intervals.bootstrap import draw
from qatplan.fitting.rows import select
from qatplan.fitting.solver.problem import build
from qatplan.fitting.solver.solve import solve
from qatplan.laws import Chinchilla, FittedLaw, Inputs, Law, QatLoss, optimal_fraction
from qatplan.laws.inputs import Floats
from qatplan.laws.law import predict_many
from qatplan.laws.quantiles import quantiles

# Chosen for simulation: of the size that small sweeps show. The published coefficients are not public.
QAT = QatLoss(
    E=1.0, A=25.0, alpha=0.32, C=60.0, beta=0.34, theta=0.25, kappa=1.1, phi=1.5, chi=0.6, psi=0.1, omega=0.5,
    lam=1.0, mu=0.5, nu=0.1, xi=0.6, rho=0.15,
)  # fmt: skip
ROOT = Path(__file__).parents[1]
# Of the shipped sweep: 36 pairs of runs that differ in the seed alone, at two sizes, differ in log loss by 0.0082 and
# -0.0036 on average (the effects of their trunks) and by 0.0077 about that, which is each run's own.
OWN, SHARED = 0.0055, 0.0045
TAILS = [0.025, 0.975]
SCENARIOS = ("chinchilla", "qat-loss", "sweep", "shipped", "misspecified", "weak")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A known law, a design, and how observations err."""

    law: Law
    x: Inputs
    trunk: list[str] | None
    error: Callable[[np.random.Generator], np.ndarray]
    points: Inputs
    watched: tuple[str, ...]
    """Parameters that the design identifies."""
    fixed: Mapping[str, float] = field(default_factory=dict)
    """Fitting coordinates that are not fitted."""


def chinchilla_design(count: int, seed: int) -> Inputs:
    rng = np.random.default_rng(seed)
    n = np.exp(rng.uniform(np.log(5e7), np.log(1.6e10), count))
    compute = np.exp(rng.uniform(np.log(1e18), np.log(3e21), count))
    return Inputs.of(n=n, d_total=np.clip(compute / 6 / n, 1e8, 1e12))


def sweep_design() -> tuple[Inputs, list[str]]:
    """5 sizes x 2 seeds; 4 budgets; bits 1, 2, 3, 4, 6 at 7 fractions, thinned; full precision at every budget."""
    rng = np.random.default_rng(1)
    rows, trunk = [], []
    for size, n in enumerate(np.geomspace(3e4, 1e6, 5)):
        for seed in (0, 1):
            for ratio in (30, 80, 200, 500):
                rows.append((n, ratio * n, np.nan, 0.0))
                trunk.append(f"{size}-{seed}")
                for bits in (1, 2, 3, 4, 6):
                    for fraction in (0.02, 0.05, 0.12, 0.25, 0.45, 0.7, 0.9):
                        if rng.random() < 0.2:
                            rows.append((n, ratio * n, bits, fraction))
                            trunk.append(f"{size}-{seed}")
    n, d, b, f = (np.array(c) for c in zip(*rows, strict=True))
    return Inputs.of(n=n, d_total=d, bits=b, fraction=f), trunk


def shipped() -> Scenario:
    """The shipped fit as the truth, on the rows it was fitted on."""
    fitted = FittedLaw.read(ROOT / "fits" / "qat-loss.json")
    assert fitted.provenance is not None
    expression = fitted.provenance.row_expression
    table = runs.read([ROOT / "data" / "main" / "runs.parquet"])
    rows = select(table, "qat-loss", shape=QatLoss, expression=expression, fix={"theta": 0.0})
    trunks = int(rows.cluster.max()) + 1
    return Scenario(
        # The fit has rho at its bound 0, where no two-sided interval can be right; the truth is taken beside it.
        law=fitted.law.replace({"rho": 0.1}),
        x=rows.x,
        trunk=[str(c) for c in rows.cluster],
        error=lambda rng: OWN * rng.standard_normal(len(rows)) + SHARED * rng.standard_normal(trunks)[rows.cluster],
        points=Inputs.of(n=[5e4, 1.2e5, 2.5e5], d_total=[4e6, 4e6, 1.6e7], bits=[4, 2, 3], fraction=[0.3, 0.3, 0.4]),
        # Amplitudes follow their exponents. Most fits call nu open, and a quarter of them have rho at its bound.
        watched=("E", "alpha", "beta", "chi", "psi", "omega", "mu", "xi"),
        fixed={"theta": -math.inf, "kappa": 0.0},
    )


def scenario(name: str) -> Scenario:
    """One of the scenarios by name."""
    if name == "shipped":
        return shipped()
    if name in ("chinchilla", "misspecified"):
        x = chinchilla_design(240, 0)
        bend = 0.01 * np.sin(np.log(x.n)) if name == "misspecified" else np.zeros(len(x))
        return Scenario(
            law=Chinchilla.published(),
            x=x,
            trunk=None,
            error=lambda rng: bend + 0.003 * rng.standard_normal(len(x)),
            points=Inputs.of(n=[1e9, 5e9, 7e10], d_total=[2e10, 1e11, 1.4e12]),
            watched=("E", "A", "alpha", "C", "beta"),
        )
    x, trunk = sweep_design()
    _, group = np.unique(trunk, return_inverse=True)
    own, shared = {"qat-loss": (0.001, 0.0), "sweep": (0.001, 0.002), "weak": (0.005, 0.005)}[name]
    return Scenario(
        law=QAT,
        x=x,
        trunk=trunk if shared else None,
        error=lambda rng: own * rng.standard_normal(len(x)) + shared * rng.standard_normal(group.max() + 1)[group],
        points=Inputs.of(n=[2e5, 1e6, 3e6], d_total=[4e7, 2e8, 6e8], bits=[4, 2, 4], fraction=[0.3, 0.3, 0.4]),
        watched=("E", "alpha", "beta", "theta", "kappa", "chi", "omega"),
    )


@dataclass(frozen=True, kw_only=True)
class Covered:
    """How the intervals of one quantity did."""

    quantity: str
    share: float
    """Of the intervals, those that hold the truth."""
    p: float
    """Of a binomial test of 95 %."""
    width: float
    """Median width of an interval, as a multiple of the width that holds the middle 95 % of all estimates."""
    widest: float
    """The same for the widest interval but one in twenty."""


@lru_cache
def question(name: str) -> tuple[Scenario, list[str], Floats]:
    """A scenario, the quantities whose intervals are examined, and their true values."""
    s = scenario(name)
    points = range(1, len(s.points) + 1)
    quantities = [*s.watched, *(f"loss {i}" for i in points)]
    if s.law.sees_fraction:
        quantities += [f"fraction {i}" for i in points]
    return s, quantities, answers(s, s.law.coordinates()[None, :])[0]


def answers(s: Scenario, theta: Floats) -> Floats:
    """(k, quantities): what is examined, of laws with fitting coordinates (k, parameters)."""
    names = list(s.law.params())
    values = [theta[:, [names.index(w) for w in s.watched]], predict_many(s.law, theta, s.points)]
    if s.law.sees_fraction:
        ask = {"n": s.points.n, "d_total": s.points.d_total, "bits": s.points.bits}
        values.append(optimal_fraction(s.law, **ask, draws=theta).fraction)
    return np.concatenate(values, axis=1)


def replication(name: str, k: int, draws: int) -> Floats:
    """(3, quantities): estimates and both ends of their intervals, of one simulated table; each k has its own noise."""
    s = question(name)[0]
    rng = np.random.default_rng([k, 77])
    y = s.law.predict(s.x) * np.exp(s.error(rng))
    columns = {"n_total": s.x.n, "d_fp": s.x.d_fp, "d_qat": s.x.d_qat, "bits": s.x.bits, "loss": y}
    if s.trunk is not None:
        columns["trunk_id"] = s.trunk
    rows = select(columns, s.law.name, shape=type(s.law), keep_tuning=True)
    problem = build(s.law, rows.x, rows.y, fixed=dict(s.fixed))
    solution = solve(problem, delta=1e-3, seed=k)
    drawn = answers(s, draw(solution, rows, count=draws, seed=k, delta=1e-3).theta)
    estimate = answers(s, problem.theta(solution.u[None, :]))
    return np.concatenate([estimate, quantiles(drawn, TAILS)])


def run(name: str, replications: int, draws: int, first: int = 0, workers: int = 1) -> list[Covered]:
    """Replications from number `first` on, by `workers` processes, whose number does not change the result."""
    _, quantities, truth = question(name)
    with ProcessPoolExecutor(workers) as pool:
        ks = range(first, first + replications)
        found = np.stack(list(pool.map(replication, repeat(name), ks, repeat(draws), chunksize=5)))
    estimate, low, high = found.transpose(1, 0, 2)
    hits = np.sum((low <= truth) & (truth <= high), axis=0)
    width = (high - low) / np.subtract(*np.quantile(estimate, TAILS[::-1], axis=0))
    return [
        Covered(
            quantity=q,
            share=float(hits[i]) / replications,
            p=float(binomtest(int(hits[i]), replications, 0.95).pvalue),
            width=float(np.median(width[:, i])),
            widest=float(np.quantile(width[:, i], 0.95)),
        )
        for i, q in enumerate(quantities)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the scenarios and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="number of the first replication; each has its own noise")
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--scenario", choices=SCENARIOS, action="append")
    chosen = parser.parse_args(arguments)
    for name in chosen.scenario or SCENARIOS:
        begin = time.perf_counter()
        table = run(name, chosen.replications, chosen.draws, chosen.first, chosen.workers)
        spent = time.perf_counter() - begin
        which = f"{chosen.replications} replications from number {chosen.first} on"
        print(f"\n{name}: {which}, {chosen.draws} draws each, {spent:.0f} s")
        print("  quantity      covered   width, widest")
        for c in table:
            verdict = "contradicts 95 %" if c.p < 0.01 else ""
            print(f"  {c.quantity:<12} {100 * c.share:6.1f} %   {c.width:5.2f}  {c.widest:6.2f}  {verdict}", flush=True)


if __name__ == "__main__":
    main()
