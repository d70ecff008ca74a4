"""The best learning rate of the second phase, cell by cell, and a smooth rule for it in bits, fraction and tokens.

    python benchmarks/qat_rates.py [RUNS ...]        (default: data/grid/tuning/runs.parquet)

A cell is a model size, budget, bit width (16 is the control in full precision) and fraction of classic runs, at which
rates relative to the trunk's were tried. Its loss is taken for a parabola in the logarithm of the rate,

    loss = level + k (log2 rate - log2 rule)^2,    log2 rule = low + (high - low) sigmoid((u - middle) / width),
    low = a + b s + c v + d u + e u s,             high = h + m v,

with u = logit f, v = ln(D_total / 4M) and s = 2^(1 - bits), which sets 1 and 2 bits apart and leaves 6 and 16 alike: a
short second phase repairs, a long one trains anew. All cells are fitted at once, each with its own level; log k is
linear in u, v and s. So a cell whose best rate is the largest or smallest tried says what it can, and flat cells say
little. Far from a cell's best the parabola counts less. Every parameter is held weakly to a value of ours (PRIOR),
which decides where the cells say nothing.

Regret is what the rule's rate costs in a cell: the measured losses between rates (shape-preserving), minus the
smallest; where the rule lies beyond the rates tried it is that of the last one, and marked.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.optimize import least_squares

from qatplan import runs
from qatplan.cli.output import table
from qatplan.units import format_count

DEFAULT = ("data/grid/tuning/runs.parquet",)
NOISE = 0.002
"""Nats by which two runs of a cell differ though their rates are equally good."""
DOUBT = 0.3
"""Share of a loss above the cell's smallest by which the parabola may be wrong there."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The rates tried at one point, ascending, with their losses (both of shape (rates,))."""

    n: float
    d_total: float
    bits: float
    fraction: float
    log_rate: Floats
    """log2 of the rate relative to the trunk's."""
    loss: Floats

    @property
    def best(self) -> int:
        return int(np.argmin(self.loss))

    @property
    def at_end(self) -> bool:
        """Whether the best rate is the first or the last that was tried."""
        return self.best in (0, len(self.loss) - 1)

    @property
    def vertex(self) -> float:
        """log2 rate of the parabola through the best rate and its neighbours; NaN where one is missing."""
        if self.at_end:
            return float("nan")
        three = slice(self.best - 1, self.best + 2)
        a, b, _ = np.polyfit(self.log_rate[three], self.loss[three], 2)
        return float(-b / (2 * a))

    def regret(self, log_rate: float) -> float:
        """Loss at a rate above the smallest measured, nats."""
        if len(self.loss) == 1:
            return 0.0
        inside = np.clip(log_rate, self.log_rate[0], self.log_rate[-1])
        return float(PchipInterpolator(self.log_rate, self.loss)(inside) - self.loss.min())

    def covers(self, log_rate: float) -> bool:
        """Whether a rate lies within those tried."""
        return bool(self.log_rate[0] <= log_rate <= self.log_rate[-1])

    @property
    def coordinates(self) -> tuple[float, float, float]:
        """(u, v, s) of the rule."""
        f = min(self.fraction, 0.99)
        return float(np.log(f / (1 - f))), float(np.log(self.d_total / 4e6)), float(2.0 ** (1 - self.bits))


def usual(row: dict[str, Any]) -> bool:
    """Whether cooldown, decay, re-warmup, optimizer and scales are a grid's defaults."""
    rewarmup = abs(row["rewarmup_tokens"] - 0.05 * row["d_qat"]) < row["batch_tokens"]
    plain = row["optimizer_state"] == "kept" and row["optimizer"] in (None, "adamw")
    scales = row["scale_learning_rate"] in (None, 1.0)
    return rewarmup and plain and scales and row["cooldown"] == 0.2 and row["qat_decay"] in (None, 1.0)


def cells(rows: Iterable[dict[str, Any]]) -> list[Cell]:
    """Cells of at least two rates, of classic runs that are as usual in all else."""
    found: dict[tuple[Any, ...], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["schedule"] != "classic" or row["loss"] is None or not row["d_fp"] or not usual(row):
            continue
        fraction = round(row["d_qat"] / row["d_total"], 2)
        key = (row["n_total"], float(f"{row['d_total']:.2g}"), row["bits"], fraction)
        found[key][row["qat_learning_rate"]].append(row["loss"])
    result = []
    for (n, d_total, bits, fraction), tried in sorted(found.items()):
        rates = sorted(tried)
        if len(rates) > 1:
            losses = np.array([float(np.mean(tried[rate])) for rate in rates])
            result.append(Cell(n=n, d_total=d_total, bits=bits, fraction=fraction,
                               log_rate=np.log2(rates), loss=losses))  # fmt: skip
    return result


PRIOR = {"a": (-3.0, 2.0), "b": (2.0, 2.0), "c": (-0.5, 0.5), "d": (0.0, 0.5), "e": (0.0, 1.0), "h": (1.5, 1.0),
         "m": (0.0, 0.3), "middle": (0.0, 1.0), "log width": (-0.7, 0.5)}  # fmt: skip
"""Value and standard deviation of each parameter before any cell is seen."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """log2 of the best rate."""

    parameters: dict[str, float]
    errors: dict[str, float]
    """Standard errors, by the fit's own scatter."""

    def log_rate(self, cell: Cell) -> float:
        return float(log_rate(np.array(list(self.parameters.values())), *cell.coordinates))


def log_rate(parameters: Floats, u: Any, v: Any, s: Any) -> Any:
    """The rule at points (u, v, s), for parameters in the order of PRIOR."""
    a, b, c, d, e, h, m, middle, log_width = parameters
    low, high = a + b * s + c * v + d * u + e * u * s, h + m * v
    return low + (high - low) / (1 + np.exp(-(u - middle) / np.exp(log_width)))


def fit(found: Sequence[Cell]) -> Rule:
    """The rule of lowest weighted squares over all cells."""
    u, v, s = (np.array(values) for values in zip(*(cell.coordinates for cell in found), strict=True))
    shape = np.stack([np.ones_like(u), *(x for x in (u, v, s) if np.ptp(x) > 0)], axis=1)
    value, deviation = (np.array(column) for column in zip(*PRIOR.values(), strict=True))

    def residuals(parameters: Floats) -> Floats:
        rule, curvature = parameters[: len(value)], np.exp(shape @ parameters[len(value) :])
        parts = [(rule - value) / deviation]
        for cell, at, k in zip(found, log_rate(rule, u, v, s), curvature, strict=True):
            weight = 1 / (NOISE + DOUBT * (cell.loss - cell.loss.min()))
            left = cell.loss - k * (cell.log_rate - at) ** 2
            parts.append(weight * (left - np.average(left, weights=weight**2)))
        return np.concatenate(parts)

    start = np.concatenate([value, [np.log(0.005)], np.zeros(shape.shape[1] - 1)])
    solved = least_squares(residuals, start, loss="soft_l1")
    free = max(1, len(solved.fun) - len(found) - len(start))
    jacobian = np.asarray(solved.jac)
    covariance = np.linalg.pinv(jacobian.T @ jacobian) * max(1.0, 2 * solved.cost / free)
    errors = np.sqrt(np.diag(covariance))
    return Rule(
        parameters=dict(zip(PRIOR, solved.x.tolist(), strict=False)),
        errors=dict(zip(PRIOR, errors.tolist(), strict=False)),
    )


def cells_table(found: Sequence[Cell], rule: Rule) -> str:
    """Every cell: the rates tried, the best, its parabola's vertex, the rule's rate and what that costs."""
    lines = []
    for cell in found:
        at = rule.log_rate(cell)
        lines.append((
            format_count(cell.n), format_count(cell.d_total), f"{cell.bits:g}", f"{cell.fraction:g}",
            f"{2 ** cell.log_rate[0]:.3g} to {2 ** cell.log_rate[-1]:.3g}",
            f"{2 ** cell.log_rate[cell.best]:.3g}{' (end)' if cell.at_end else ''}",
            "" if np.isnan(cell.vertex) else f"{2**cell.vertex:.2g}", f"{cell.loss.min():.4f}",
            f"{2**at:.2g}{'' if cell.covers(at) else ' (beyond)'}", f"{1e3 * cell.regret(at):.1f}",
        ))  # fmt: skip
    heads = ["N", "D_total", "bits", "f", "rates", "best", "vertex", "loss", "rule", "regret, mnats"]
    return table(heads, lines)


def main() -> None:
    """Print the cells, the rule and what it costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", default=DEFAULT)
    found = cells(runs.read(parser.parse_args().runs).to_pylist())
    rule = fit(found)
    print(cells_table(found, rule))
    print("\nThe rule, with standard errors:\n")
    parameters = [(name, f"{value:.3f}", f"{rule.errors[name]:.3f}") for name, value in rule.parameters.items()]
    print(table(["parameter", "value", "error"], parameters) + "\n")
    lines = []
    for bits in sorted({cell.bits for cell in found}):
        mine = [cell for cell in found if cell.bits == bits]
        costs = 1e3 * np.array([cell.regret(rule.log_rate(cell)) for cell in mine])
        ends = sum(cell.at_end for cell in mine)
        lines.append((f"{bits:g}", str(len(mine)), str(ends), f"{costs.mean():.1f}", f"{costs.max():.1f}"))
    print(table(["bits", "cells", "best at an end", "mean regret, mnats", "worst"], lines))


if __name__ == "__main__":
    main()
