"""Where a law is evaluated: model size, tokens of both phases, bits, group size; one entry per run or question."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qatplan.errors import UsageError

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Points in (N, D_fp, D_qat, bits, group size), all arrays of one shape (rows,).

    Build it with `Inputs.of`, which broadcasts and validates.
    """

    n: Floats
    """Parameters; whether they include embeddings is the caller's convention."""
    d_fp: Floats
    """Tokens trained in full precision."""
    d_qat: Floats
    """Tokens trained with quantized weights."""
    bits: Floats
    """Bits per weight; NaN for a full-precision run."""
    group_size: Floats
    """Weights that share one step; NaN for one step per output channel."""

    @staticmethod
    def of(
        *,
        n: ArrayLike,
        d_total: ArrayLike | None = None,
        fraction: ArrayLike | None = None,
        d_fp: ArrayLike | None = None,
        d_qat: ArrayLike | None = None,
        bits: ArrayLike | None = None,
        group_size: ArrayLike | None = None,
    ) -> Inputs:
        """Broadcast scalars and arrays to one flat length. Give (d_total, fraction) or (d_fp, d_qat).

        Without `bits` (or where it is NaN) a point is a full-precision run and needs no split.
        Raises UsageError for a number that no run can have.
        """
        bits_array = _floats(np.nan if bits is None else bits)
        if d_total is None:
            if d_fp is None:
                raise UsageError("tokens are missing: give d_total with fraction, or d_fp with d_qat")
            fp, qat = _floats(d_fp), _floats(0.0 if d_qat is None else d_qat)
        else:
            if d_fp is not None or d_qat is not None:
                raise UsageError("give either d_total with fraction or d_fp with d_qat, not both")
            if fraction is None and not np.all(np.isnan(bits_array)):
                raise UsageError("a quantized point needs fraction (the share of tokens in QAT), from 0 to 1")
            total = _floats(d_total)
            share = _floats(0.0 if fraction is None else fraction)
            _refuse(~((share >= 0) & (share <= 1)), share, "fraction", "from 0 to 1")
            fp, qat = total * (1.0 - share), total * share
        group = _floats(np.nan if group_size is None else group_size)
        arrays = [np.ascontiguousarray(a) for a in np.broadcast_arrays(_floats(n), fp, qat, bits_array, group)]
        x = Inputs(n=arrays[0], d_fp=arrays[1], d_qat=arrays[2], bits=arrays[3], group_size=arrays[4])
        _refuse(~((x.n > 0) & np.isfinite(x.n)), x.n, "n", "a positive number of parameters")
        _refuse(~((x.d_fp >= 0) & np.isfinite(x.d_fp)), x.d_fp, "d_fp", "0 or more tokens")
        _refuse(~((x.d_qat >= 0) & np.isfinite(x.d_qat)), x.d_qat, "d_qat", "0 or more tokens")
        _refuse(~(x.d_total > 0), x.d_total, "d_total", "a positive number of tokens")
        _refuse((x.bits <= 0) | np.isinf(x.bits), x.bits, "bits", "a positive number, or none for full precision")
        _refuse((x.group_size < 1) | np.isinf(x.group_size), x.group_size, "group_size", "at least 1")
        _refuse(~x.quantized & (x.d_qat > 0), x.d_qat, "d_qat", "0 where bits is not given")
        return x

    def __len__(self) -> int:
        return int(self.n.shape[0])

    def take(self, rows: Any) -> Inputs:
        """The points selected by an index array, a mask or a slice."""
        return Inputs(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @cached_property
    def quantized(self) -> NDArray[np.bool_]:
        """True where the point has a bit width."""
        return ~np.isnan(self.bits)

    @cached_property
    def d_total(self) -> Floats:
        """D_fp + D_qat, tokens."""
        return self.d_fp + self.d_qat

    @cached_property
    def fraction(self) -> Floats:
        """D_qat / D_total."""
        return self.d_qat / self.d_total

    @cached_property
    def parameter_bytes(self) -> Floats:
        """N * bits / 8; NaN for full precision."""
        return self.n * self.bits / 8.0

    @cached_property
    def s_total(self) -> Floats:
        """Tokens per parameter byte of the whole run (arXiv 2509.22935)."""
        return self.d_total / self.parameter_bytes

    @cached_property
    def s_fp(self) -> Floats:
        """Tokens per parameter byte of the full-precision phase."""
        return self.d_fp / self.parameter_bytes

    @cached_property
    def s_qat(self) -> Floats:
        """Tokens per parameter byte of the QAT phase."""
        return self.d_qat / self.parameter_bytes


def _floats(value: ArrayLike) -> Floats:
    return np.atleast_1d(np.asarray(value, dtype=np.float64))


def _refuse(bad: NDArray[np.bool_], values: Floats, name: str, allowed: str) -> None:
    if np.any(bad):
        raise UsageError(f"{name} is {np.broadcast_to(values, bad.shape)[bad][0]:g}; allowed is {allowed}")
