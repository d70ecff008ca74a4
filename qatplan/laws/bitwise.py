"""The interface of laws that carry their own parameters for every bit width, named such as `eff_4` or `k_1.58`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from qatplan.errors import UsageError
from qatplan.laws.inputs import Floats, Inputs
from qatplan.laws.law import Law, Parameter, check_names

FULL_PRECISION = math.inf
"""Stands for full precision among bit widths; its suffix is `fp`."""
ROUNDED = "D_qat = 0 with a bit width (rounded after training): {}"


def suffix(bits: float) -> str:
    """`4`, `1.58` or `fp`."""
    return "fp" if math.isinf(bits) else f"{bits:g}"


def widths_of(x: Inputs) -> tuple[float, ...]:
    """The bit widths that occur, ascending, without full precision."""
    return tuple(float(b) for b in np.unique(x.bits[x.quantized]))


@dataclass(frozen=True, kw_only=True)
class BitwiseLaw(Law):
    """Fields that are plain numbers are shared by all bit widths; tuples have an entry for each of `bit_widths`."""

    bit_widths: tuple[float, ...]

    @classmethod
    @cache
    def shared(cls) -> tuple[Parameter, ...]:
        """The declared parameters that all bit widths share."""
        plain = [f.name for f in dataclasses.fields(cls) if f.type == "float"]
        return tuple(p for p in cls.declared() if p.name in plain)

    @classmethod
    def each(cls) -> tuple[Parameter, ...]:
        """The declared parameters that every bit width has its own of."""
        return tuple(p for p in cls.declared() if p not in cls.shared())

    def used(self) -> tuple[Parameter, ...]:
        """Those of `each` that this law has; one that is left out is an empty tuple."""
        return tuple(p for p in self.each() if getattr(self, p.name) or not self.bit_widths)

    def parameters(self) -> tuple[Parameter, ...]:
        """Shared parameters, then those of each bit width in turn."""
        each = [
            dataclasses.replace(
                p,
                name=f"{p.name}_{suffix(b)}",
                symbol=f"{p.symbol}({suffix(b)})",
                meaning=f"{p.meaning}, {'full precision' if math.isinf(b) else f'{b:g} bits'}",
            )
            for b in self.bit_widths
            for p in self.used()
        ]
        return (*self.shared(), *each)

    def params(self) -> dict[str, float]:
        """Parameter values by name, natural units."""
        values = {p.name: float(getattr(self, p.name)) for p in self.shared()}
        for i, b in enumerate(self.bit_widths):
            values |= {f"{p.name}_{suffix(b)}": float(getattr(self, p.name)[i]) for p in self.used()}
        return values

    @classmethod
    def for_inputs(cls, x: Inputs) -> Self:
        """A law with parameters for every bit width that occurs; its values are placeholders."""
        return cls.of_widths(widths_of(x), [p.name for p in cls.each()])

    @classmethod
    def of_widths(cls, widths: Sequence[float], stems: Sequence[str]) -> Self:
        """The law with these bit widths and stems; its values are placeholders."""
        values = {p.name: 1.0 for p in cls.shared()}
        values |= {f"{stem}_{suffix(b)}": 1.0 for b in widths for stem in stems}
        return cls.from_params(values)

    @classmethod
    def from_params(cls, values: Mapping[str, float]) -> Self:
        """Build from parameters by name; the bit widths are read off the names."""
        shared, each = [p.name for p in cls.shared()], [p.name for p in cls.each()]
        stems: dict[str, None] = {}
        widths: set[float] = set()
        for name in values:
            stem, _, end = name.rpartition("_")
            if name in shared or stem not in each:
                continue
            try:
                widths.add(FULL_PRECISION if end == "fp" else float(end))
            except ValueError as error:
                raise UsageError(f"law {cls.name} has no parameter {name}; {end} is no bit width") from error
            stems[stem] = None
        ordered = tuple(sorted(widths))
        check_names(cls.name, shared + [f"{s}_{suffix(b)}" for b in ordered for s in stems], values)
        fields: dict[str, Any] = {n: float(values[n]) for n in shared}
        for stem in each:
            fields[stem] = tuple(float(values[f"{stem}_{suffix(b)}"]) for b in ordered if stem in stems)
        return cls(**{"bit_widths": ordered, **fields})

    def known_widths(self, x: Inputs) -> Floats:
        """0 where the law has parameters for the point's bit width, NaN where it has none (so it predicts NaN)."""
        known = np.isin(np.where(x.quantized, x.bits, FULL_PRECISION), [*self.bit_widths, FULL_PRECISION])
        return np.where(known, 0.0, np.nan)

    def refusals(self, x: Inputs) -> list[tuple[NDArray[np.bool_], str]]:
        """Points for whose bit width the law has nothing, and models that were rounded after training."""
        have = ", ".join(suffix(b) for b in self.bit_widths) or "none"
        unknown = set(x.bits[np.isnan(self.known_widths(x))].tolist())
        foreign = [(x.bits == b, f"{b:g} bits: this law has parameters for bits {have} only") for b in unknown]
        return [*foreign, (x.quantized & (x.d_qat == 0), ROUNDED.format("the law describes QAT"))]
