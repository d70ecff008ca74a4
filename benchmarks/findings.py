"""What the shipped sweep says, as tables: the numbers of docs/explanation/shipped-sweep.md come from here.

python benchmarks/findings.py [RUNS ...]        (default: data/main/runs.parquet data/more-fractions/runs.parquet)
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterable
from typing import Any

import numpy as np

from qatplan import runs
from qatplan.cli.output import table
from qatplan.fitting.curves import Minimum, curves, minima
from qatplan.fitting.rows import select
from qatplan.laws import FittedLaw, QatFraction
from qatplan.units import format_count

LOSS_LAW = "fits/qat-loss.json"
DEFAULT = ("data/main/runs.parquet", "data/more-fractions/runs.parquet")
Row = dict[str, Any]


def fraction(row: Row) -> float:
    """The nominal QAT fraction (runs are rounded to whole steps)."""
    return round(float(row["d_qat"]) / float(row["d_total"]), 2)


def best(rows: Iterable[Row], *keys: str) -> dict[tuple[Any, ...], float]:
    """The lowest loss of the rows that agree in `keys` (`f` is the fraction)."""
    found: dict[tuple[Any, ...], float] = {}
    for row in rows:
        key = tuple(fraction(row) if name == "f" else row[name] for name in keys)
        if row["loss"] is not None:
            found[key] = min(row["loss"], found.get(key, math.inf))
    return found


def optima_table(found: list[Minimum]) -> str:
    """Every curve with its interpolated optimum."""
    law, rows = QatFraction(), []
    for optimum in found:
        curve = optimum.curve
        low, high = optimum.interval()
        rows.append((
            format_count(curve.n), format_count(curve.d_total), f"{curve.bits:g}", f"{curve.seed:g}",
            f"{curve.s_total:.0f}", "" if math.isnan(optimum.fraction) else f"{optimum.fraction:.3f}",
            "" if math.isnan(low) or optimum.note else f"{low:.3f} to {high:.3f}",
            f"{law.fraction(curve.s_total):.3f}", optimum.note or "",
        ))  # fmt: skip
    return table(["N", "D_total", "bits", "seed", "S_total", "optimum", "95 %", "published law", "note"], rows)


def slopes(found: list[Minimum]) -> str:
    """Log-odds of the optimum regressed on the logs of S_total, or of N and D_total, with a level per bit width."""
    inner = [o for o in found if o.note is None and not math.isnan(o.fraction)]
    if len(inner) < 12:
        return "too few inner optima for a regression"
    y = np.log([o.fraction / (1 - o.fraction) for o in inner])
    log = {name: np.log([getattr(o.curve, name) for o in inner]) for name in ("s_total", "n", "d_total")}
    bits = np.array([o.curve.bits for o in inner])
    levels = {f"{b:g} bits": (bits == b).astype(float) for b in np.unique(bits)}
    lines = []
    for name, columns in (
        ("S_total alone", {"one": np.ones_like(y), "ln S": log["s_total"]}),
        ("S_total, level per bit width", {**levels, "ln S": log["s_total"]}),
        ("N, D_total, level per bit width", {**levels, "ln N": log["n"], "ln D": log["d_total"]}),
    ):
        design = np.stack(list(columns.values()), axis=1)
        beta, *_ = np.linalg.lstsq(design, y, rcond=None)
        error = y - design @ beta
        variance = float(error @ error) / (len(y) - design.shape[1])
        spread = np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
        said = [f"{key} {b:+.2f} ± {e:.2f}" for key, b, e in zip(columns, beta, spread, strict=True) if key[:2] == "ln"]
        centred = design[:, [key[:2] == "ln" for key in columns]].mean(axis=0) @ beta[-len(said) :]
        at_mean = [f"{key} {1 / (1 + math.exp(-b - centred)):.2f}" for key, b in zip(columns, beta, strict=True)
                   if key in levels]  # fmt: skip
        lines.append((name, len(y), ", ".join(said), f"{math.sqrt(variance):.2f}", ", ".join(at_mean)))
    return table(["explained by", "curves", "slopes", "residual sd (log-odds)", "optimum at the mean N and D"], lines)


def law_against_optima(found: list[Minimum], fitted: FittedLaw) -> str:
    """The loss law's optimal fraction and its interval beside the measured one, at the bit widths of its rows."""
    low_bits, high_bits = fitted.ranges["bits"]
    inner = [o for o in found if o.note is None and low_bits <= o.curve.bits <= high_bits]
    best, band = fitted.predictor().optimum(
        n=[o.curve.n for o in inner], d_total=[o.curve.d_total for o in inner], bits=[o.curve.bits for o in inner]
    )
    measured, bits = np.array([o.fraction for o in inner]), np.array([o.curve.bits for o in inner])
    above, holds = best.fraction > measured, (band.low <= measured) & (measured <= band.high)
    lines = []
    for name, of in [*((f"{b:g}", bits == b) for b in np.unique(bits)), ("all", bits > 0)]:
        lines.append((name, of.sum(), above[of].sum(), holds[of].sum(),
                      f"{np.median(measured[of]):.2f}", f"{np.median(best.fraction[of]):.2f}"))  # fmt: skip
    heads = ["bits", "curves", "law above minimum", "interval holds minimum", "median minimum", "median of the law"]
    return table(heads, lines)


def cost_of_rules(rows: list[Row]) -> str:
    """Loss above the best measured split for fixed fractions, averaged over models and budgets, by bit width."""
    classic = [row for row in rows if row["bits"] is not None and row["schedule"] in ("classic", "post-training")]
    at = best(classic, "bits", "n_total", "d_total", "seed", "f")
    control = best((r for r in rows if r["bits"] is None), "n_total", "d_total", "seed")
    lines = []
    for bits in sorted({key[0] for key in at}):
        points = {key[1:4] for key in at if key[0] == bits}
        lowest = {p: min(v for k, v in at.items() if k[0] == bits and k[1:4] == p) for p in points}
        cells = []
        for f in (0.0, 0.01, 0.03, 0.08, 0.2, 0.4, 0.7, 1.0):
            excess = [at[bits, *p, f] - lowest[p] for p in points if (bits, *p, f) in at]
            cells.append(f"{statistics.fmean(excess):.3f} ({len(excess)})" if excess else "")
        above = [lowest[p] - control[p] for p in points if p in control]
        lines.append((f"{bits:g}", *cells, f"{statistics.fmean(above):+.3f}"))
    heads = ["bits", "f = 0 (rounded)", "0.01", "0.03", "0.08", "0.2", "0.4", "0.7", "1", "best above full precision"]
    return table(heads, lines)


def fused(rows: list[Row]) -> str:
    """Fused against classic at 4 bits, each at its own best of the fractions that both were measured at."""
    lines = []
    for schedule in ("fused", "fused-late"):
        ours = best((r for r in rows if r["schedule"] == schedule), "n_total", "d_total", "seed", "f")
        classic = best(
            (r for r in rows if r["schedule"] == "classic" and r["bits"] == 4), "n_total", "d_total", "seed", "f"
        )
        for point in sorted({key[:3] for key in ours}):
            shared = sorted(key[3] for key in ours if key[:3] == point and key in classic)
            a = min((ours[*point, f], f) for f in shared)
            b = min((classic[*point, f], f) for f in shared)
            lines.append((schedule, format_count(point[0]), format_count(point[1]), f"{b[0]:.4f} ({b[1]:g})",
                          f"{a[0]:.4f} ({a[1]:g})", f"{100 * math.expm1(b[0] - a[0]):+.2f} %"))  # fmt: skip
    return table(["schedule", "N", "D_total", "classic loss (at f)", "fused loss (at f)", "perplexity gained"], lines)


def seeds(rows: list[Row]) -> str:
    """How far two seeds of one run lie apart, in loss and in loss above the full-precision control of the seed."""
    control = best((r for r in rows if r["bits"] is None), "n_total", "d_total", "seed")
    groups: dict[tuple[Any, ...], dict[int, float]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("n_total", "d_total", "d_qat", "bits", "schedule", "qat_learning_rate"))
        if row["loss"] is not None:
            groups.setdefault(key, {})[row["seed"]] = row["loss"]
    pairs = [(key, group) for key, group in groups.items() if {0, 1} <= group.keys()]
    lines = []
    for name, chosen in (
        ("full precision", [p for p in pairs if p[0][3] is None]),
        ("quantized, QAT", [p for p in pairs if p[0][3] is not None and p[0][2] > 0]),
        ("rounded after training", [p for p in pairs if p[0][3] is not None and p[0][2] == 0]),
    ):
        loss = [g[0] - g[1] for _, g in chosen]
        above = [
            (g[0] - control[*k[:2], 0]) - (g[1] - control[*k[:2], 1])
            for k, g in chosen
            if {(*k[:2], 0), (*k[:2], 1)} <= control.keys()
        ]

        def sd(differences: list[float]) -> str:
            return f"{math.sqrt(statistics.fmean(d * d for d in differences) / 2):.4f}" if differences else ""

        lines.append((name, len(chosen), sd(loss), sd(above) if "precision" not in name else ""))
    return table(["runs", "pairs", "sd of loss", "sd of loss above control"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", default=DEFAULT)
    whole = runs.read(parser.parse_args().runs)
    rows = whole.to_pylist()
    found = minima(curves(select(whole, "qat-fraction", shape=QatFraction)), draws=400, seed=0)
    found = [o for o in found if len(o.curve.fraction) >= 5]
    for title, text in (
        ("Measured optima", optima_table(found)),
        (f"Optimal fraction by {LOSS_LAW}", law_against_optima(found, FittedLaw.read(LOSS_LAW))),
        ("Does the optimal fraction grow with S_total, and do bit widths collapse on it?", slopes(found)),
        ("Mean loss (nats per token) above the best split measured, by fraction (curves)", cost_of_rules(rows)),
        ("Does fusing the cooldown with QAT help at 4 bits?", fused(rows)),
        ("Noise between two seeds, nats per token", seeds(rows)),
    ):
        print(f"{title}\n\n{text}\n")


if __name__ == "__main__":
    main()
