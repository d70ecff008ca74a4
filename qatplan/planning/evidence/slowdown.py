"""How much slower a token is in QAT than in full precision, measured on runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from qatplan.errors import DataError

COLUMNS: Final = (
    "n_total", "sequence", "batch_tokens", "device", "backend", "precision", "threads", "torch_version",
    "bits", "d_qat", "tokens_per_second",
)  # fmt: skip
"""Columns of a runs table that are looked at; `tokens_per_second` is that of a run's own tokens, after its switch."""

_ALIKE: Final = COLUMNS[:8]


@dataclass(frozen=True, kw_only=True)
class Slowdown:
    """Time of a QAT token over the time of a full-precision one."""

    factor: float
    """Median over settings."""
    lowest: float
    highest: float
    """Over settings."""
    settings: int
    """Settings (model size, sequence, batch, device, backend, precision, threads, torch) with runs of both kinds."""
    runs: int


def measured_slowdown(rows: Iterable[Mapping[str, Any]]) -> Slowdown:
    """The factor from runs that differ in nothing but quantization.

    In each setting the median throughput in full precision is divided by the median in QAT. Rounded runs trained no
    tokens of their own and do not count. Raises DataError when no setting has runs of both kinds.
    """
    # (in full precision, in QAT) of each setting.
    speeds: dict[tuple[Any, ...], tuple[list[float], list[float]]] = {}
    for row in rows:
        speed, quantized = row.get("tokens_per_second"), row.get("bits") is not None
        if speed is not None and speed > 0 and (not quantized or (row.get("d_qat") or 0) > 0):
            speeds.setdefault(tuple(row.get(name) for name in _ALIKE), ([], []))[quantized].append(float(speed))
    both = [(full, qat) for full, qat in speeds.values() if full and qat]
    if not both:
        what = "full-precision and QAT runs of one size on one device, with tokens_per_second"
        raise DataError(f"no runs measure the slowdown of QAT: it takes {what}.")
    factors = [median(full) / median(qat) for full, qat in both]
    runs, ends = sum(len(full) + len(qat) for full, qat in both), (min(factors), max(factors))
    return Slowdown(factor=median(factors), lowest=ends[0], highest=ends[1], settings=len(both), runs=runs)
