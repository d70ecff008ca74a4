"""The study of quantization methods as tables and a figure: every number of docs/methods.md comes from here.

    python benchmarks/methods.py [data/methods/*.parquet] [--figure docs/figures/methods.svg]

The loss of a run is counted above the full-precision run of its model and seed. An interval is 95 %, of the mean over
seeds; its scatter is that between seeds, pooled over all cells of a bit width (median of |difference|, so that single
runs that broke do not widen all intervals).
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qatplan import runs
from qatplan.cli.output import table
from qatplan.units import format_count

Row = dict[str, Any]
Cell = tuple[int, float]
"""(width, bits)."""
USUAL_SHARE = 0.3
"""Of QAT in the tokens; where it is another, a method's name says so."""
MEDIAN_OF_NORMAL = 0.6745
"""Median of |x| of a standard normal variable."""


@dataclass(frozen=True)
class Outcome:
    """One method at one learning rate in one cell."""

    losses: tuple[float | None, ...]
    """Above full precision, one per seed; None where the run diverged."""

    @property
    def mean(self) -> float:
        """Over the seeds; infinite where a run diverged."""
        known = [loss for loss in self.losses if loss is not None]
        return statistics.fmean(known) if len(known) == len(self.losses) else math.inf


Outcomes = dict[str, dict[Cell, dict[float, Outcome]]]
"""By method, cell and relative peak learning rate."""


def method_of(row: Row) -> str:
    """What the study compares: the quantizer, and what is not usual about how it was trained or rounded."""
    parts = [row["quantizer"]]
    if row["schedule"] == "post-training":
        return f"{row['quantizer']}, {row['post_training']} after training"
    if row["optimizer"] != "adamw":
        parts.append(row["optimizer"])
    if row["update"] != "learning-rate":
        parts.append(row["update"])
    if row["scale_learning_rate"] == 0:
        parts.append("ranges frozen")
    elif row["scale_learning_rate"] != 1:
        parts.append(f"ranges x{row['scale_learning_rate']:g}")
    if row["activation_bits"] is not None:
        parts.append(f"A{row['activation_bits']:g} per {row['activation_granularity']}")
    share = row["d_qat"] / row["d_total"]
    if abs(share - USUAL_SHARE) > 0.05:
        parts.append(f"{100 * share:.0f} % QAT")
    return ", ".join(parts)


def outcomes(rows: Iterable[Row]) -> Outcomes:
    """All runs, sorted into methods, cells and learning rates."""
    rows = list(rows)
    control = {(r["width"], r["seed"]): r["loss"] for r in rows if r["bits"] is None}
    found: dict[str, dict[Cell, dict[float, dict[int, float | None]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(dict))
    )
    for row in rows:
        if row["bits"] is None:
            continue
        excess = None if row["loss"] is None else row["loss"] - control[row["width"], row["seed"]]
        rate = row["qat_learning_rate"] or math.nan
        # Every run after training has the same key, whatever its not-a-number.
        key = 0.0 if math.isnan(rate) else rate
        found[method_of(row)][row["width"], row["bits"]][key][row["seed"]] = excess
    return {
        method: {
            cell: {rate: Outcome(tuple(seeds[s] for s in sorted(seeds))) for rate, seeds in sorted(rates.items())}
            for cell, rates in cells.items()
        }
        for method, cells in found.items()
    }


def seed_scatter(found: Outcomes, bits: float) -> float:
    """Standard deviation of one run between seeds at a bit width, pooled over all cells with two sound runs."""
    differences = [
        abs(outcome.losses[0] - outcome.losses[1])
        for cells in found.values()
        for cell, rates in cells.items()
        for outcome in rates.values()
        if cell[1] == bits and len(outcome.losses) == 2
        if outcome.losses[0] is not None and outcome.losses[1] is not None
    ]
    return statistics.median(differences) / MEDIAN_OF_NORMAL / math.sqrt(2) if differences else math.nan


def best(rates: dict[float, Outcome]) -> tuple[float, Outcome]:
    """The learning rate of lowest mean loss."""
    return min(rates.items(), key=lambda item: item[1].mean)


def level_table(found: Outcomes, cells: Sequence[Cell]) -> str:
    """Loss above full precision of every method at its own best learning rate."""
    rows = []
    for method, by_cell in sorted(found.items(), key=lambda item: _average(item[1])):
        shown = []
        for cell in cells:
            if cell not in by_cell:
                shown.append("")
                continue
            rate, outcome = best(by_cell[cell])
            half = 1.96 * seed_scatter(found, cell[1]) / math.sqrt(len(outcome.losses))
            at = f" @{rate:g}" if rate else ""
            shown.append(f"{outcome.mean:.3f} ± {half:.3f}{at}" if math.isfinite(outcome.mean) else "diverged")
        rows.append((method, *shown))
    return table(["method", *map(_cell_name, cells)], rows)


def spread_table(found: Outcomes, cells: Sequence[Cell]) -> str:
    """How much worse the worst of the learning rates is than the best: what a wrong guess costs."""
    rows = []
    for method, by_cell in sorted(found.items(), key=lambda item: _spread(item[1])):
        shown, diverged = [], 0
        for cell in cells:
            rates = by_cell.get(cell, {})
            diverged += sum(loss is None for outcome in rates.values() for loss in outcome.losses)
            worst = max((outcome.mean for outcome in rates.values()), default=math.nan)
            shown.append("" if len(rates) < 2 else f"{worst - best(rates)[1].mean:.3f}")
        if any(shown):
            rows.append((method, *shown, diverged or ""))
    return table(["method", *map(_cell_name, cells), "diverged"], rows)


def paired(found: Outcomes, method: str, other: str) -> str:
    """Difference method - other at each one's best learning rate, over cells and seeds."""
    lines = []
    for bits in sorted({cell[1] for cell in found.get(method, {})}):
        differences = [
            a - b
            for cell, rates in found[method].items()
            if cell[1] == bits and cell in found.get(other, {})
            for a, b in zip(best(rates)[1].losses, best(found[other][cell])[1].losses, strict=False)
            if a is not None and b is not None
        ]
        if len(differences) > 1:
            half = 1.96 * statistics.stdev(differences) / math.sqrt(len(differences))
            mean = statistics.fmean(differences)
            lines.append(f"{bits:g} bits {mean:+.3f} ± {half:.3f} ({len(differences)} pairs)")
    return f"{method} minus {other}: {'; '.join(lines)}"


def half_way(rows: Iterable[Row], quantizers: Sequence[str]) -> str:
    """Training loss over the first half of the QAT phase: who gets there faster, at equal learning rates."""
    early: dict[tuple[float, float], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["quantizer"] not in quantizers or not row["d_qat"] or not row["curve"]:
            continue
        if method_of(row) != row["quantizer"]:
            continue
        middle = row["d_fp"] + row["d_qat"] / 2
        seen = [point["loss"] for point in row["curve"] if row["d_fp"] < point["tokens"] <= middle]
        if seen:
            early[row["bits"], row["qat_learning_rate"]][row["quantizer"]].append(statistics.fmean(seen))
    shown = [
        (f"{bits:g}", f"{rate:g}", *(f"{statistics.fmean(by[q]):.3f}" if by[q] else "" for q in quantizers))
        for (bits, rate), by in sorted(early.items())
    ]
    return table(["bits", "learning rate", *quantizers], shown)


def _average(by_cell: dict[Cell, dict[float, Outcome]]) -> float:
    return statistics.fmean(best(rates)[1].mean for rates in by_cell.values())


def _spread(by_cell: dict[Cell, dict[float, Outcome]]) -> float:
    return max(max(o.mean for o in rates.values()) - best(rates)[1].mean for rates in by_cell.values())


def _cell_name(cell: Cell) -> str:
    return f"width {cell[0]}, {cell[1]:g} bits"


def draw(found: Outcomes, cells: Sequence[Cell], sizes: dict[int, int], target: Path) -> None:
    """Every method in each cell that most have run in, one mark per learning rate: level and sensitivity at once."""
    from matplotlib.ticker import MaxNLocator

    from qatplan.figures.style import FAINT, INK, MARKERS, applied, panel_grid, save

    cells = [cell for cell in cells if 2 * sum(cell in by_cell for by_cell in found.values()) > len(found)]
    methods = sorted(found, key=lambda method: -_average(found[method]))
    rates = sorted({rate for cells_ in found.values() for by in cells_.values() for rate in by})
    with applied():
        figure, grid = panel_grid(
            "Loss above full precision by method, lowest average at the top",
            ["Nats per token, mean of the seeds; one mark per peak learning rate relative to the trunk's.",
             "A mark at the right edge: off the scale, or a run diverged."],
            rows=1, columns=len(cells), panel=(1.45, 0.15 * len(methods) + 0.1), gaps=(0.12, 0.4), left=2.35,
            bottom=0.75,
        )  # fmt: skip
        for axes, cell in zip(grid[0], cells, strict=True):
            known = [o.mean for method in methods for o in found[method].get(cell, {}).values()]
            finite = sorted(value for value in known if math.isfinite(value))
            top = 1.15 * finite[int(0.9 * (len(finite) - 1))]
            for place, method in enumerate(methods):
                axes.axhline(place, color=FAINT, linewidth=0.3, zorder=0)
                for rate, outcome in found[method].get(cell, {}).items():
                    axes.plot(
                        min(outcome.mean, top), place, linestyle="", marker=MARKERS[rates.index(rate)],
                        markersize=3.6, color=INK, markerfacecolor="none", markeredgewidth=0.8, clip_on=False,
                    )  # fmt: skip
            axes.set_xlim(min(0.0, finite[0]), top)
            axes.set_ylim(-0.7, len(methods) - 0.3)
            axes.set_yticks(range(len(methods)), methods if axes is grid[0][0] else [""] * len(methods), fontsize=6.5)
            axes.set_title(f"{cell[1]:g} bits, {format_count(sizes[cell[0]])} parameters", fontsize=7)
            axes.xaxis.set_major_locator(MaxNLocator(3, prune="upper"))
            axes.set_xlabel("nats above full precision", fontsize=6.5)
        named = [(MARKERS[i], f"{rate:g}" if rate else "after training") for i, rate in enumerate(rates)]
        handles = [
            grid[0][0].plot([], [], linestyle="", marker=m, color=INK, markerfacecolor="none", label=label)[0]
            for m, label in named
        ]
        figure.legend(
            handles=handles, loc="lower left", ncols=len(handles), fontsize=6.5, frameon=False,
            title="peak learning rate of QAT relative to the trunk's", title_fontsize=6.5,
        )  # fmt: skip
        save(figure, target)


def main() -> None:
    """Print the tables and, where asked, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, default=sorted(Path("data/methods").glob("*.parquet")))
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    rows: list[Row] = [row for path in options.paths for row in runs.read([path]).to_pylist()]
    found = outcomes(rows)
    cells = sorted({cell for by_cell in found.values() for cell in by_cell}, key=lambda cell: (cell[1], cell[0]))
    scatter = ", ".join(f"{b:g} bits {seed_scatter(found, b):.4f}" for b in sorted({cell[1] for cell in cells}))
    print(f"{len(rows)} runs; scatter between seeds: {scatter}")
    print(f"\nLoss above full precision at the best learning rate (@)\n{level_table(found, cells)}")
    print(f"\nWorst learning rate minus best\n{spread_table(found, cells)}")
    print("\nPaired differences at each one's best learning rate (negative: the first is better)")
    for method, other in (
        ("lsq-softclamp", "lsq"), ("lsq-sigmoid", "lsq"), ("lsq-softclamp-sigmoid", "lsq"), ("paretoq", "lsq"),
        ("quest", "lsq"), ("min-max", "scale-offset"), ("beta-gamma", "scale-offset"), ("beta-gamma", "min-max"),
        ("beta-gamma", "beta-gamma-sigmoid"),
        ("paretoq, transition-rate, 60 % QAT", "paretoq, 60 % QAT"),
        ("paretoq, transition-rate, 60 % QAT", "paretoq, ranges frozen, 60 % QAT"),
        ("paretoq, transition-rate-by-layer, 60 % QAT", "paretoq, 60 % QAT"),
        ("paretoq, transition-rate-by-layer, 60 % QAT", "paretoq, ranges frozen, 60 % QAT"),
        ("paretoq, sgd, transition-rate, 60 % QAT", "paretoq, sgd, 60 % QAT"),
        ("paretoq, adaround after training", "paretoq, rtn after training"),
        ("paretoq, importance after training", "paretoq, rtn after training"),
    ):  # fmt: skip
        if method in found and other in found:
            print(f"  {paired(found, method, other)}")
    print("\nTraining loss over the first half of the QAT phase, mean of sizes and seeds")
    print(half_way(rows, ("lsq", "scale-offset", "min-max", "beta-gamma", "beta-gamma-sigmoid")))
    if options.figure is not None:
        draw(found, cells, {row["width"]: row["n_total"] for row in rows}, options.figure)


if __name__ == "__main__":
    main()
