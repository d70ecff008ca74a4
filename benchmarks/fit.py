"""Time, objective and agreement of the fitter, beside other fitters on the same rows, in one run.

    python benchmarks/fit.py [--environment DIR] [--grid 3] [--skip-peers]

Ours: the 5-parameter Chinchilla law on 240 rows, the 16-parameter QAT loss law on 757 rows, each with 1,000 bootstrap
draws, and 100,000 rows. Rows are simulated (the published 240 points are not on the package index): Chinchilla from the
corrected published constants, QAT from coefficients of ours.

Beside: `chinchilla` and `simple-scaling-laws`, installed from the package index into DIR, and SciPy's
L-BFGS-B with finite differences from the usual grid of starts. `chinchilla` is started from a grid of `--grid` values
per parameter (its examples use 4,500 starts in all; time grows in proportion). `simple-scaling-laws` minimises another
objective (squares, not Huber terms), so its objective is not comparable; it asks for Python 3.12 and is installed
regardless of that. All times are CPU seconds of one process tree.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import tempfile
import time
import venv
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.optimize import minimize

from qatplan.fitting.intervals.bootstrap import draw
from qatplan.fitting.rows import select
from qatplan.fitting.solver.newton import minimise
from qatplan.fitting.solver.objective import Weighted
from qatplan.fitting.solver.problem import build
from qatplan.fitting.solver.solve import deltas, solve
from qatplan.laws import Chinchilla, Inputs, Law, QatLoss

DELTA = 1e-3
# `simple-scaling-laws` asks for Python 3.12 but runs on 3.11, so it is installed without that check and, since pip
# would then drop the check for its dependencies too, after them.
PEERS = (
    ("chinchilla==0.2.0", "numpy>=1.26", "scipy>=1.13", "polars>=1.0", "pyyaml>=6.0.1"),
    ("--no-deps", "--ignore-requires-python", "simple-scaling-laws==0.2.0"),
)
QAT = QatLoss(
    E=1.8, A=480.0, alpha=0.35, C=2000.0, beta=0.37, theta=0.25, kappa=1.2, phi=4.0, chi=0.7, psi=0.12, omega=0.45,
    lam=2.0, mu=0.6, nu=0.1, xi=0.6, rho=0.15,
)  # fmt: skip

# The part that runs inside the peers' own environment; it prints one JSON object as its last line.
WORKER = """
import json, resource, sys, tempfile, time
import numpy as np
which, path, grid = sys.argv[1], sys.argv[2], int(sys.argv[3])
data = np.load(path)
def cpu():
    return sum(resource.getrusage(w).ru_utime + resource.getrusage(w).ru_stime
               for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
if which == "chinchilla":
    from chinchilla import Chinchilla
    from chinchilla._metrics import log_huber
    starts = dict(E=np.linspace(1.1, 1.9, grid), a=np.linspace(1, 10, grid), b=np.linspace(1, 10, grid),
                  alpha=np.linspace(0.1, 0.7, grid), beta=np.linspace(0.1, 0.7, grid))
    cc = Chinchilla(tempfile.mkdtemp(), param_grid=starts, log_level=40,
                    loss_fn=lambda y, p: log_huber(y, p, 1e-3))
    for n, d, y in zip(data["n"], data["d"], data["y"]):
        cc.database.append(C=6.0 * n * d, N=float(n), D=float(d), loss=float(y))
    begin = cpu()
    cc.fit(parallel=False)
    out = dict(E=float(cc.E), A=float(cc.A), C=float(cc.B), alpha=float(cc.alpha), beta=float(cc.beta))
    print(json.dumps(dict(seconds=cpu() - begin, params=out, starts=grid**5)))
else:
    import polars as pl
    import simple_scaling_laws as ssl
    ids = [f"r{i}" for i in range(len(data["y"]))]
    frame = pl.DataFrame({"training_run_id": ids, "train_set_id": ids, "test_set_id": ["t"] * len(ids),
                          "optimizer_seed": [0] * len(ids), "model_size__n_params": data["n"],
                          "dataset_size__tokens": data["d"], "test_loss__cross_entropy": data["y"]})
    begin = cpu()
    model = ssl.fit(frame, n_draws=1000, seed=0)
    p, domain = model.params("test_loss__cross_entropy"), model.observed_domain
    # Its amplitudes are for predictors divided by their reference.
    a = p["A"] * domain["model_size__n_params"]["reference"] ** p["alpha"]
    c = p["B"] * domain["dataset_size__tokens"]["reference"] ** p["beta"]
    out = dict(E=p["E"], A=a, C=c, alpha=p["alpha"], beta=p["beta"])
    print(json.dumps(dict(seconds=cpu() - begin, params=out, starts=None)))
"""


def chinchilla_rows() -> tuple[Inputs, np.ndarray]:
    """240 rows with 1 % noise."""
    rng = np.random.default_rng(0)
    n = np.exp(rng.uniform(np.log(5e7), np.log(1.6e10), 240))
    x = Inputs.of(n=n, d_total=np.clip(np.exp(rng.uniform(np.log(1e18), np.log(3e21), 240)) / 6 / n, 1e8, 1e12))
    return x, Chinchilla.published().predict(x) * np.exp(0.01 * rng.standard_normal(240))


def qat_rows(count: int, noise: float, seed: int = 0) -> tuple[Inputs, np.ndarray]:
    """Like the published sweep: 86M to 2.2B parameters, bits 1, 2, 4, 6 and full precision."""
    rng = np.random.default_rng(seed)
    n = rng.choice([86e6, 194e6, 396e6, 759e6, 1.5e9, 2.2e9], count)
    d = n * rng.choice(np.geomspace(20, 600, 8), count)
    bits = rng.choice([1, 2, 4, 6, np.nan], count, p=[0.22, 0.22, 0.22, 0.22, 0.12])
    f = np.where(np.isnan(bits), 0.0, 1 / (1 + np.exp(-rng.uniform(-4, 3, count))))
    x = Inputs.of(n=n, d_total=d, bits=bits, fraction=f)
    return x, QAT.predict(x) * np.exp(noise * rng.standard_normal(count))


def ours(title: str, law: Law, x: Inputs, y: np.ndarray, draws: int) -> float:
    """Fit, certify and bootstrap; print one block and return the objective."""
    columns = {"n_total": x.n, "d_fp": x.d_fp, "d_qat": x.d_qat, "bits": x.bits, "loss": y}
    rows = select(columns, law.name, shape=type(law))
    begin = time.process_time()
    solution = solve(build(law, rows.x, rows.y), delta=DELTA, seed=0)
    fitted = time.process_time() - begin
    begin = time.process_time()
    made = draw(solution, rows, count=draws, seed=0, delta=DELTA) if draws else None
    drawn = time.process_time() - begin
    proof = solution.certificate
    line = f"{title:<42} {fitted:8.3f} s  {solution.objective:.12g}  {proof.starts_agreeing}/{proof.starts} agree"
    print(line + (f"  {draws} draws ({made.how.kind}) {drawn:.2f} s" if made is not None else ""), flush=True)
    return solution.objective


def certainty(replications: int) -> None:
    """How often the quick search ends where a search from 64 starts, or one from the truth, ends lowest."""
    hits = 0
    for seed in range(replications):
        x, y = qat_rows(757, 0.003, seed)
        problem = build(QAT, x, y)
        quick = solve(problem, delta=DELTA, seed=0)
        thorough = solve(problem, delta=DELTA, seed=1, starts=64).objective
        task = Weighted(problem=problem, weights=np.ones(len(y)), log_y=problem.log_y)
        from_truth = minimise(task, problem.scaled(QAT.coordinates())[None, :], deltas=deltas(DELTA)).value[0]
        hits += quick.objective <= min(thorough, from_truth) * (1 + 1e-6)
    print(f"{'qat-loss 757: optimum found':<42} {hits} of {replications} data sets")


def standard_errors() -> None:
    """Bootstrap standard errors of warm draws against global refits of the same resamples."""
    x, y = qat_rows(757, 0.001)
    rows = select(
        {"n_total": x.n, "d_fp": x.d_fp, "d_qat": x.d_qat, "bits": x.bits, "loss": y}, QAT.name, shape=QatLoss
    )
    solution = solve(build(QAT, rows.x, rows.y), delta=DELTA, seed=0)
    warm = draw(solution, rows, count=60, seed=5, delta=DELTA).theta
    counts = np.random.default_rng([5, 1]).multinomial(757, np.full(757, 1 / 757), size=60)
    resamples = [np.repeat(np.arange(757), c[rows.cluster]) for c in counts]
    alone = [solve(build(QAT, rows.x.take(r), rows.y[r]), delta=DELTA, seed=2).theta() for r in resamples]
    ratio = warm.std(axis=0) / np.std(alone, axis=0)
    print(f"{'warm / global standard errors, 60 draws':<42} {ratio.min():.4f} to {ratio.max():.4f}")


def scipy_grid(x: Inputs, y: np.ndarray, best: float, grid: int) -> None:
    """The usual notebook recipe: L-BFGS-B, finite differences, a grid of starts, sum of Huber terms."""

    def objective(t: np.ndarray) -> float:
        z = np.stack([np.full(len(y), t[0]), t[1] - t[3] * np.log(x.n), t[2] - t[4] * np.log(x.d_total)])
        r = np.abs(np.logaddexp.reduce(z) - np.log(y))
        c = np.minimum(r, DELTA)
        return float(np.sum(c * (r - 0.5 * c)))

    values = [np.linspace(0, 1, grid), np.linspace(0, 20, grid), np.linspace(0, 20, grid)]
    values += [np.linspace(0, 1.5, grid)] * 2
    begin = time.process_time()
    found = np.array([minimize(objective, s, method="L-BFGS-B").fun for s in itertools.product(*values)])
    spent = time.process_time() - begin
    share = np.mean(found <= best * (1 + 1e-6))
    print(
        f"{'SciPy L-BFGS-B, finite differences':<42} {spent:8.3f} s  {found.min():.12g}  "
        f"{100 * share:.0f} % of {grid**5} starts within 1e-6; {4500 / grid**5 * spent:.0f} s for 4,500 starts"
    )


def peers(environment: Path, x: Inputs, y: np.ndarray, grid: int) -> None:
    """Run the other packages in their own environment and judge their parameters by our objective."""
    python = environment / "bin" / "python"
    if not python.exists():
        venv.create(environment, with_pip=True)
    for wanted in PEERS:
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *wanted], check=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npz"
        np.savez(path, n=x.n, d=x.d_total, y=y)
        for name in ("chinchilla", "simple-scaling-laws"):
            ran = subprocess.run(
                [python, "-c", WORKER, name, str(path), str(grid)], capture_output=True, text=True, check=False
            )
            if ran.returncode:
                print(f"{name:<42} failed: {ran.stderr.strip().splitlines()[-1] if ran.stderr.strip() else '?'}")
                continue
            result = json.loads(ran.stdout.strip().splitlines()[-1])
            note = "with 1,000 draws, least squares" if result["starts"] is None else f"{result['starts']} starts"
            print(f"{name:<42} {result['seconds']:8.3f} s  {_judged(result['params'], x, y)}  {note}", flush=True)


def _judged(params: dict[str, float], x: Inputs, y: np.ndarray) -> str:
    law = Chinchilla(**params)
    r = np.abs(np.log(law.predict(x) / y))
    c = np.minimum(r, DELTA)
    return f"{float(np.sum(c * (r - 0.5 * c))):.12g}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run everything and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, default=Path(tempfile.gettempdir(), "qatplan-peers"))
    parser.add_argument("--grid", type=int, default=3, help="starts per parameter for the grid-started fitters")
    parser.add_argument("--skip-peers", action="store_true")
    parser.add_argument("--certainty", type=int, default=20, help="data sets for the chance of the optimum")
    chosen = parser.parse_args(arguments)
    x, y = chinchilla_rows()
    print(f"{'':<42} {'CPU':>10}  objective")
    best = ours("qatplan, chinchilla, 240 rows", Chinchilla.published(), x, y, 1000)
    scipy_grid(x, y, best, chosen.grid)
    if not chosen.skip_peers:
        peers(chosen.environment.resolve(), x, y, chosen.grid)
    for noise in (0.001, 0.003):
        ours(f"qatplan, qat-loss, 757 rows, noise {noise:g}", QAT, *qat_rows(757, noise), 1000)
    ours("qatplan, qat-loss, 100,000 rows", QAT, *qat_rows(100_000, 0.003), 0)
    certainty(chosen.certainty)
    standard_errors()
    print(f"largest memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
