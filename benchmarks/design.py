"""How much compute designed runs save over random ones and over a grid, in simulation.

    python benchmarks/design.py [--pilots 4] [--draws 200] [--share 0.3] [--trunk-effects]

A thinned pilot sweep is simulated from a known law and fitted. Then more runs are added and the law is fitted again:
the runs that `qatplan design` names for a budget (a share of the pilot's compute), random candidates, and a full
grid of bits and fractions at the three largest affordable sizes, each for 1, 2, 4 and 8 times that budget. Compared is
the width of the refitted 95 % bootstrap interval of the best QAT fraction, at ten times the pilot's largest size and
tokens, over 2, 3 and 4 bits. All costs share trunks alike. Losses scatter by 0.3 % per run; with --trunk-effects, half
of that variance is common to all runs of one size, which the designer does not know.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np

from qatplan.fitting.diagnostics import residual_deviation
from qatplan.fitting.intervals.bootstrap import draw
from qatplan.fitting.rows import select
from qatplan.fitting.solver.objective import residuals
from qatplan.fitting.solver.problem import build
from qatplan.fitting.solver.solve import solve
from qatplan.laws import FittedLaw, Inputs, QatLoss, optimal_fraction
from qatplan.laws.law import natural
from qatplan.laws.quantiles import quantiles
from qatplan.planning.next_runs.candidates import CandidateRuns, candidates
from qatplan.planning.next_runs.knowledge import knowledge
from qatplan.planning.next_runs.selection import select as select_runs

# Chosen for simulation: of the size that small sweeps show. The published coefficients are not public.
TRUTH = QatLoss(
    E=1.0, A=25.0, alpha=0.32, C=60.0, beta=0.34, theta=0.25, kappa=1.1, phi=1.5, chi=0.6, psi=0.1, omega=0.5,
    lam=1.0, mu=0.5, nu=0.1, xi=0.6, rho=0.15,
)  # fmt: skip
NOISE, BITS, LARGEST, MULTIPLES = 0.003, (2.0, 3.0, 4.0), (1e6, 5e8), (1.0, 2.0, 4.0, 8.0)


def pilot(rng: np.random.Generator) -> Inputs:
    """About 120 runs: 5 sizes, 4 budgets of tokens, 3 bit widths at 7 fractions (a quarter of them), full precision."""
    rows = []
    for n in np.geomspace(3e4, LARGEST[0], 5):
        for ratio in (30, 80, 200, 500):
            rows.append((n, ratio * n, np.nan, 0.0))
            rows += [
                (n, ratio * n, b, f) for b in BITS for f in (0.02, 0.05, 0.12, 0.25, 0.45, 0.7, 0.9)
                if rng.random() < 0.25
            ]  # fmt: skip
    n, d, b, f = (np.array(column) for column in zip(*rows, strict=True))
    return Inputs.of(n=n, d_total=d, bits=b, fraction=f)


def joined(first: Inputs, second: Inputs) -> Inputs:
    """Both sets of points."""
    names = ("n", "d_fp", "d_qat", "bits", "group_size")
    return Inputs(**{name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in names})


def measured(x: Inputs, rng: np.random.Generator, trunk_effects: bool) -> np.ndarray:
    """Losses of runs at x."""
    error = NOISE * rng.standard_normal(len(x))
    if trunk_effects:
        sizes, position = np.unique(x.n, return_inverse=True)
        error = np.sqrt(0.5) * (error + NOISE * rng.standard_normal(len(sizes))[position])
    losses: np.ndarray = TRUTH.predict(x) * np.exp(error)
    return losses


def fitted(x: Inputs, losses: np.ndarray, draws: int, seed: int) -> FittedLaw:
    """A fit with draws."""
    rows = select({"n_total": x.n, "d_fp": x.d_fp, "d_qat": x.d_qat, "bits": x.bits, "loss": losses}, "qat-loss",
                  shape=QatLoss, keep_tuning=True)  # fmt: skip
    solution = solve(build(TRUTH, rows.x, rows.y), delta=1e-3, seed=seed)
    theta = draw(solution, rows, count=draws, seed=seed, delta=1e-3).theta
    parameters = TRUTH.parameters()
    return FittedLaw(
        law=solution.problem.law.from_coordinates(solution.theta()),
        draws=np.array([list(natural(parameters, row).values()) for row in theta]),
        noise=residual_deviation(residuals(solution.problem, solution.u[None, :])[0], solution.problem.size),
        ranges={"n": (3e4, LARGEST[0]), "d_total": (9e5, LARGEST[1])},
    )


def width(fit: FittedLaw) -> float:
    """Mean width of the 95 % intervals of the best fraction."""
    target = optimal_fraction(
        TRUTH, n=10 * LARGEST[0], d_total=10 * LARGEST[1], bits=BITS, draws=fit.draw_coordinates()
    ).fraction
    low, high = quantiles(target, [0.025, 0.975])
    return float(np.mean(high - low))


def random_runs(possible: CandidateRuns, budget: float, rng: np.random.Generator) -> list[int]:
    """Candidates in random order as long as they fit."""
    chosen: list[int] = []
    spent = 0.0
    for run in rng.permutation(len(possible))[:400]:
        extra = float(possible.extra_flops(chosen)[run])
        if spent + extra <= budget:
            chosen, spent = [*chosen, int(run)], spent + extra
    return chosen


def grid_runs(possible: CandidateRuns, budget: float) -> list[int]:
    """All bits and fractions at the three largest affordable sizes, at the tokens per parameter of the target."""
    x = possible.x
    sizes, ratio = np.unique(x.n), LARGEST[1] / LARGEST[0]
    for top in range(len(sizes), 0, -1):
        chosen: list[int] = []
        for n in sizes[max(top - 3, 0) : top]:
            own = np.flatnonzero(x.n == n)
            nearest = x.d_total[own][np.argmin(np.abs(np.log(x.d_total[own] / (ratio * n))))]
            chosen += own[np.isclose(x.d_total[own], nearest, rtol=1e-9)].tolist()
        if possible.flops(chosen) <= budget:
            return chosen
    return []


def needed(widths: Sequence[float], goal: float) -> float:
    """Multiple of the budget at which widths fall to the goal, between the multiples by straight lines in logs."""
    logs = np.log(np.minimum.accumulate(widths))
    if logs[-1] > np.log(goal):
        return np.inf
    return float(np.exp(np.interp(-np.log(goal), -logs, np.log(MULTIPLES))))


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate and print widths and the compute that each way of choosing runs needs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pilots", type=int, default=4)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--trunk-effects", action="store_true")
    chosen = parser.parse_args(arguments)
    begin, table = time.process_time(), []
    for k in range(chosen.pilots):
        rng = np.random.default_rng([k, 5])
        x = pilot(rng)
        losses = measured(x, rng, chosen.trunk_effects)
        before = fitted(x, losses, chosen.draws, k)
        budget = chosen.share * CandidateRuns(x=x, trunks={}).flops(range(len(x)))
        possible = candidates(before, bits=BITS, budget=MULTIPLES[-1] * budget)

        def after(runs: Sequence[int], x: Inputs = x, losses: np.ndarray = losses, possible: CandidateRuns = possible,
                  rng: np.random.Generator = rng, k: int = k) -> float:  # fmt: skip
            new = possible.x.take(list(runs))
            every = np.concatenate([losses, measured(new, rng, chosen.trunk_effects)])
            return width(fitted(joined(x, new), every, chosen.draws, k))

        known, _ = knowledge(before, before.predictor(), possible, target="fraction", params=10 * LARGEST[0],
                             tokens=10 * LARGEST[1], bits=BITS)  # fmt: skip
        ours = select_runs(known, possible, budget=budget, runs=chosen.runs)
        designed = after(ours)
        at_random = [float(np.median([after(random_runs(possible, m * budget, rng)) for _ in range(3)]))
                     for m in MULTIPLES]  # fmt: skip
        in_grid = [after(runs) if (runs := grid_runs(possible, m * budget)) else width(before) for m in MULTIPLES]
        expected = width(before) * np.sqrt(known.left(ours))
        table.append((width(before), expected, designed, needed(at_random, designed), needed(in_grid, designed)))
        print(
            f"pilot {k}: {len(x)} runs, width {width(before):.3f}; {len(ours)} designed runs {designed:.3f} (expected "
            f"{expected:.3f}); random {' '.join(f'{w:.3f}' for w in at_random)}; grid "
            f"{' '.join(f'{w:.3f}' for w in in_grid)}; compute for the same width: random {table[-1][3]:.2g} x, "
            f"grid {table[-1][4]:.2g} x",
            flush=True,
        )
    middle = np.median(np.array(table), axis=0)
    print(
        f"median of {chosen.pilots} pilots: width {middle[0]:.3f} before, {middle[2]:.3f} after the designed runs; for "
        f"the same width random runs need {middle[3]:.2g} times the compute, a grid {middle[4]:.2g} times "
        f"(inf: not within {MULTIPLES[-1]:g} times); {time.process_time() - begin:.0f} s CPU"
    )


if __name__ == "__main__":
    main()
