"""What a table of runs spans: sizes, budgets, bit widths, fractions, schedules, seeds and losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

Range = tuple[float, float] | None
"""Smallest and largest known value, or None where none is known."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """The runs of one model size."""

    n_total: int
    """Parameters."""
    n_nonembedding: int | None
    runs: int
    d_total: Range
    """Tokens."""
    tokens_per_parameter: Range
    """d_total / n_total."""
    bits: tuple[float | None, ...]
    """Bit widths present, None for full precision."""
    loss: Range
    """Nats per token."""


@dataclass(frozen=True, kw_only=True)
class Count:
    """How many runs share one value of a field; value None is a null."""

    value: Any
    runs: int


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a table of runs spans."""

    rows: int
    status: tuple[Count, ...]
    sizes: tuple[Size, ...]
    bits: tuple[Count, ...]
    schedules: tuple[Count, ...]
    quantizers: tuple[Count, ...]
    seeds: tuple[Count, ...]
    fractions: Range
    """d_qat / d_total of the quantized runs."""
    distinct_fractions: int
    """Fractions that differ by more than rounding to whole steps explains (0.001)."""
    trunks: int
    """Clusters of runs that share a trunk."""
    tokens: int
    """Sum of d_total, as if every run had been trained from scratch."""
    loss: Range
    """Nats per token."""
    bits_per_byte: Range
    """The same losses per byte of text, of the runs that say it."""


def summarise(table: pa.Table) -> Summary:
    """Summary of a table of SCHEMA; rows with missing values count where their values are known."""
    table = table.combine_chunks()
    total, qat = _real(table, "d_total"), _real(table, "d_qat")
    fraction = pc.filter(pc.divide(qat, total), pc.is_valid(table.column("bits")))
    return Summary(
        rows=table.num_rows,
        status=_counts(table, "status"),
        sizes=_sizes(table),
        bits=_counts(table, "bits"),
        schedules=_counts(table, "schedule"),
        quantizers=_counts(table, "quantizer"),
        seeds=_counts(table, "seed"),
        fractions=_range(fraction),
        distinct_fractions=pc.count_distinct(pc.round(fraction, 3)).as_py(),
        trunks=pc.count_distinct(table.column("trunk_id")).as_py(),
        tokens=round(pc.sum(total).as_py() or 0.0),
        loss=_range(table.column("loss")),
        bits_per_byte=_range(table.column("bits_per_byte")),
    )


def _sizes(table: pa.Table) -> tuple[Size, ...]:
    table = table.filter(pc.greater(table.column("n_total"), 0))
    ratio = pc.divide(_real(table, "d_total"), _real(table, "n_total"))
    # Runs of one size may differ in what they say about embeddings; the smallest known count stands for them.
    grouped = (
        table.append_column("ratio", ratio)
        .group_by("n_total")
        .aggregate(
            [
                ("n_nonembedding", "min"),
                ("run_id", "count", pc.CountOptions(mode="all")),
                ("d_total", "min_max"),
                ("ratio", "min_max"),
                ("bits", "distinct", pc.CountOptions(mode="all")),
                ("loss", "min_max"),
            ]
        )
        .sort_by("n_total")
    )
    return tuple(
        Size(
            n_total=row["n_total"],
            n_nonembedding=row["n_nonembedding_min"],
            runs=row["run_id_count"],
            d_total=_pair(row["d_total_min_max"]),
            tokens_per_parameter=_pair(row["ratio_min_max"]),
            bits=tuple(sorted(row["bits_distinct"], key=_order)),
            loss=_pair(row["loss_min_max"]),
        )
        for row in grouped.to_pylist()
    )


def _counts(table: pa.Table, name: str) -> tuple[Count, ...]:
    """Values of a column with their numbers of runs, ordered; empty where every value is null."""
    column = table.column(name)
    if column.null_count == len(column) and name != "bits":
        return ()
    counts = [Count(value=pair["values"], runs=pair["counts"]) for pair in pc.value_counts(column).to_pylist()]
    return tuple(sorted(counts, key=lambda count: _order(count.value)))


def _real(table: pa.Table, name: str) -> Any:
    return table.column(name).cast(pa.float64(), safe=False)


def _order(value: Any) -> tuple[bool, Any]:
    return (value is None, 0 if value is None else value)


def _range(column: Any) -> Range:
    return _pair(pc.min_max(column).as_py())


def _pair(extremes: dict[str, Any]) -> Range:
    return None if extremes["min"] is None else (extremes["min"], extremes["max"])
