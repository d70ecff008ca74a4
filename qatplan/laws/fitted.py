"""A fitted law as one typed object and one JSON file: enough to predict with uncertainty without the data."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import numpy as np

from qatplan.errors import DataError, NotTrustworthy, UsageError
from qatplan.laws.inputs import Floats, Inputs
from qatplan.laws.law import Law, predict_many, to_coordinate
from qatplan.laws.quantiles import quantiles, quantiles_of_runs
from qatplan.laws.registry import get
from qatplan.storage.atomic import write_bytes

FORMAT = "qatplan-fit-1"


class Status(StrEnum):
    """How a fit ended; everything but GOOD fails the certificate."""

    GOOD = "good"
    STARTS_DISAGREE = "starts-disagree"
    NOT_CONVERGED = "not-converged"
    UNDETERMINED = "undetermined"

    @property
    def message(self) -> str:
        """What it means, in a sentence."""
        return {
            Status.GOOD: "the best optimum was reached from several starts and its gradient vanishes",
            Status.STARTS_DISAGREE: "too few starts reached the best objective, so it may not be the global one",
            Status.NOT_CONVERGED: "the gradient at the best point is not small, so it is not an optimum",
            Status.UNDETERMINED: "the rows do not determine all parameters; see `identifiability`",
        }[self]


@dataclass(frozen=True, kw_only=True)
class FittedLaw:
    """A law with its parameters fitted, how sure they are, and everything needed to judge and repeat the fit."""

    law: Law
    draws: Floats | None = None
    """(draws, parameters) natural values from the bootstrap, in the law's order; None where none were made."""
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Confidence interval of each parameter at `level`."""
    interval_kind: str = "none"
    """bootstrap, profile or none."""
    level: float = 0.95
    objective: float = math.nan
    """Sum over rows of Huber(log predicted - log observed)."""
    rows: int = 0
    left_out: list[dict[str, Any]] = field(default_factory=list)
    """Reasons why rows were not used: {reason, rows, examples}."""
    starts: int = 0
    starts_agreeing: int = 0
    status: Status = Status.GOOD
    flags: list[str] = field(default_factory=list)
    identifiability: list[str] = field(default_factory=list)
    holdout: dict[str, Any] | None = None
    n_convention: str = "total"
    noise: float = math.nan
    """Robust standard deviation of the log residuals."""
    seed_noise: float | None = None
    """Standard deviation of log loss between runs that differ in the seed alone; None without such runs."""
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Smallest and largest fitted value of n, d_total, bits, fraction, s_total."""
    huber: float = 1e-3
    certificate: dict[str, Any] = field(default_factory=dict)
    criticism: dict[str, Any] = field(default_factory=dict)
    """Residual tables and leave-one-size-out scores, where asked for."""
    derived: dict[str, float] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def params(self) -> dict[str, float]:
        """Parameter values by name."""
        return self.law.params()

    def predict(self, x: Inputs) -> Floats:
        """The fitted law's value at each point."""
        return self.law.predict(x)

    def draw_coordinates(self) -> Floats:
        """(draws, parameters) fitting coordinates of the bootstrap draws, for `optimal_fraction`.

        Raises UsageError for a fit made without draws.
        """
        if self.draws is None:
            raise UsageError(
                "this fit has no bootstrap draws, so it gives no intervals; fit again with --bootstrap 1000"
            )
        parameters = self.law.parameters()
        names = [p.name for p in parameters]
        with np.errstate(divide="ignore"):
            rows = [
                [to_coordinate(p, dict(zip(names, d, strict=True))) for p in parameters] for d in self.draws.tolist()
            ]
        return np.asarray(rows, dtype=np.float64)

    def predict_interval(
        self,
        x: Inputs,
        level: float = 0.95,
        kind: Literal["confidence", "prediction"] = "confidence",
    ) -> tuple[Floats, Floats]:
        """(low, high) per point: of the mean loss (`confidence`) or of one new run's loss (`prediction`).

        The prediction interval adds the scatter of single runs about the law, `noise`, to the confidence interval.
        """
        if not 0 < level < 1:
            raise UsageError(f"level is {level:g}; allowed is between 0 and 1")
        values = predict_many(self.law, self.draw_coordinates(), x)
        tail = [0.5 * (1.0 - level), 0.5 * (1.0 + level)]
        if kind == "confidence":
            low, high = quantiles(values, tail)
            return low, high
        if not math.isfinite(self.noise):
            raise UsageError("this fit records no noise, so it gives no prediction interval")
        low, high = quantiles_of_runs(values, self.noise, tail)
        return low, high

    def extrapolation(self, x: Inputs) -> list[str]:
        """Sentences saying how far the points lie outside the fitted ranges; empty if they lie inside."""
        words = {
            "n": ("parameters", x.n),
            "d_total": ("tokens", x.d_total),
            "bits": ("bits", x.bits),
            "fraction": ("QAT fraction", np.where(x.quantized, x.fraction, np.nan)),
            "s_total": ("tokens per parameter byte", x.s_total),
        }
        sentences = []
        for key, (word, values) in words.items():
            known = values[~np.isnan(values)]
            if key not in self.ranges or not known.size:
                continue
            low, high = self.ranges[key]
            lowest, highest = float(known.min()), float(known.max())
            if highest > high * (1 + 1e-12):
                factor = f", {highest / high:.3g} times the largest" if high > 0 and key != "bits" else ""
                sentences.append(f"{word} {highest:.4g} is above the fitted range {low:.4g} to {high:.4g}{factor}")
            if lowest < low * (1 - 1e-12):
                factor = f", {low / lowest:.3g} times below the smallest" if lowest > 0 and key != "bits" else ""
                sentences.append(f"{word} {lowest:.4g} is below the fitted range {low:.4g} to {high:.4g}{factor}")
        return sentences

    def require_trust(self) -> None:
        """Raise NotTrustworthy, with the fit as evidence, unless its certificate holds."""
        if self.status is not Status.GOOD:
            raise NotTrustworthy(f"the fit of {self.law.name} is not trustworthy: {self.status.message}", evidence=self)

    def to_json(self) -> dict[str, Any]:
        """The JSON object: plain types, NaN as null."""
        plain: dict[str, Any] = {"format": FORMAT, "law": self.law.name, "params": self.params}
        for f in dataclasses.fields(self):
            if f.name in ("law", "draws"):
                continue
            plain[f.name] = getattr(self, f.name)
        plain["status_message"] = self.status.message
        plain["draws"] = None if self.draws is None else self.draws.tolist()
        cleaned = clean(plain)
        assert isinstance(cleaned, dict)
        return cleaned

    def write(self, path: str | Path) -> None:
        """Write the JSON file atomically."""
        text = json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
        write_bytes(Path(path), text.encode())

    @staticmethod
    def from_json(value: Mapping[str, Any], origin: str = "fit") -> FittedLaw:
        """Build from the JSON object; raises DataError naming `origin` for an object that is no fit."""
        if value.get("format") != FORMAT:
            raise DataError(f"{origin} is not a qatplan fit (its format is {value.get('format')!r}, not {FORMAT!r})")
        try:
            law = get(value["law"]).from_params({k: _number(v) for k, v in value["params"].items()})
            known = {f.name for f in dataclasses.fields(FittedLaw)} - {"law", "draws", "status", "intervals", "ranges"}
            rest: dict[str, Any] = {k: value[k] for k in known if k in value}
            for key in ("objective", "noise"):
                rest[key] = _number(rest.get(key))
            draws = value.get("draws")
            return FittedLaw(
                law=law,
                draws=None if draws is None else np.asarray([[_number(v) for v in row] for row in draws]),
                status=Status(value["status"]),
                intervals={k: (_number(v[0]), _number(v[1])) for k, v in value["intervals"].items()},
                ranges={k: (_number(v[0]), _number(v[1])) for k, v in value.get("ranges", {}).items()},
                **rest,
            )
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise DataError(f"{origin} is a damaged fit: {type(error).__name__} at {error}") from error

    @staticmethod
    def read(path: str | Path) -> FittedLaw:
        """Read a JSON file; raises DataError for a missing, unreadable or foreign file."""
        try:
            value = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise DataError(f"{path} cannot be read as a fit: {error}") from error
        if not isinstance(value, dict):
            raise DataError(f"{path} is not a qatplan fit (it holds no JSON object)")
        return FittedLaw.from_json(value, str(path))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def clean(value: Any) -> Any:
    """The same value in plain JSON types: arrays as lists, numbers that are not finite as null."""
    if isinstance(value, Mapping):
        return {str(k): clean(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return clean(value.tolist())
    if isinstance(value, list | tuple):
        return [clean(v) for v in value]
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, np.generic):
        return clean(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
