"""A fitted law as one typed object and one JSON file: enough to predict with uncertainty without the data."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np

from qatplan.errors import DataError, NotTrustworthy, UsageError, shorten
from qatplan.laws.fit_parts import Certificate, Diagnostics, LeftOut, Pair, Provenance, Score, plain
from qatplan.laws.inputs import Floats, Inputs
from qatplan.laws.law import Law, coordinates
from qatplan.laws.predictor import NO_DRAWS, Predictor
from qatplan.laws.registry import get
from qatplan.storage.atomic import write_bytes
from qatplan.storage.incoming import read_json
from qatplan.storage.typed import parse
from qatplan.units import format_count

FORMAT = "qatplan-fit-1"
_KEYS = (
    "format", "law", "params", "intervals", "interval_kind", "level", "objective", "rows", "left_out", "starts",
    "starts_agreeing", "status", "flags", "identifiability", "holdout", "n_convention", "noise", "seed_noise", "ranges",
    "huber", "certificate", "criticism", "derived", "provenance", "status_message", "draws",
)  # fmt: skip
"""Of a fit's file, in its order."""
_LARGEST = 1e300
"""Parameters beyond are no result of a fit, and their products no numbers."""


class Worded(StrEnum):
    """Words of files, each with a `message`: what it means, in a sentence."""

    message: str

    def __new__(cls, word: str, message: str) -> Self:
        made = str.__new__(cls, word)
        made._value_, made.message = word, message
        return made


class Status(Worded):
    """How a fit ended; everything but GOOD fails the certificate."""

    GOOD = "good", "the best optimum was reached from several starts, and one more step would gain nothing"
    STARTS_DISAGREE = "starts-disagree", "too few starts reached the best objective, so it may not be the global one"
    NOT_CONVERGED = "not-converged", "one more step from the best point would still gain, so it is not an optimum"
    UNDETERMINED = "undetermined", "the rows do not determine all parameters"


_MEASURED: Final[Mapping[str, tuple[str, Callable[[float], str]]]] = {
    "n": ("{} parameters are", format_count),
    "d_total": ("{} tokens are", format_count),
    "bits": ("{} bits are", "{:g}".format),
    "fraction": ("a QAT fraction of {} is", "{:.3g}".format),
    "s_total": ("{} tokens per parameter byte are", format_count),
}


def _beyond(key: str, value: float, share: float, measured: Pair, side: str) -> str:
    """How far a value lies outside what was measured; `share`, below 1, is its distance as a ratio."""
    words, shown = _MEASURED[key]
    times = f"{float(f'{1 / share:.3g}'):,.10g}" if 0 < share < 0.95 and key != "bits" else None
    if side == "above":
        far = "above the largest" if times is None else f"{times} times the largest"
    else:
        far = "below the smallest" if times is None else f"{times} times smaller than the smallest"
    return f"{words.format(shown(value))} {far} measured ({shown(measured[0])} to {shown(measured[1])})"


@dataclass(frozen=True, kw_only=True, repr=False)
class FittedLaw:
    """A law with its parameters fitted, how sure they are, and everything needed to judge and repeat the fit."""

    law: Law
    draws: Floats | None = None
    """(draws, parameters) natural values from the bootstrap, in the law's order; None where none were made."""
    intervals: dict[str, Pair] = field(default_factory=dict)
    """Confidence interval of each fitted parameter at `level`."""
    interval_kind: str = "none"
    """bootstrap, profile or none."""
    level: float = 0.95
    objective: float = math.nan
    """Sum over rows of Huber(log predicted - log observed)."""
    rows: int = 0
    left_out: tuple[LeftOut, ...] = ()
    status: Status = Status.GOOD
    flags: tuple[str, ...] = ()
    """What one must know before relying on the fit; see `qatplan.laws.flags`."""
    identifiability: tuple[str, ...] = ()
    """What the rows do not determine."""
    holdout: Score | None = None
    n_convention: str = "total"
    noise: float = math.nan
    """Robust standard deviation of the log residuals."""
    seed_noise: float | None = None
    """Standard deviation of log loss between runs that differ in the seed alone; None without such runs."""
    ranges: dict[str, Pair] = field(default_factory=dict)
    """Smallest and largest fitted value of n, d_total, bits, fraction, s_total."""
    huber: float = 1e-3
    certificate: Certificate = field(default_factory=Certificate)
    diagnostics: Diagnostics | None = None
    derived: dict[str, float] = field(default_factory=dict)
    provenance: Provenance | None = None

    def __repr__(self) -> str:
        drawn = "no draws" if self.draws is None else f"{len(self.draws)} draws"
        return f"FittedLaw({self.law}, {self.rows} rows, {drawn}, {self.status})"

    @property
    def params(self) -> dict[str, float]:
        """Parameter values by name."""
        return self.law.params()

    @property
    def sources(self) -> tuple[str, ...]:
        """Files and folders of the runs, as the fit records them."""
        return () if self.provenance is None else self.provenance.sources

    @property
    def fixed(self) -> dict[str, float]:
        """Parameters that were not fitted: fixed, or without rows that speak about them.

        Without intervals only those at 0 can be told from fitted ones.
        """
        fitted = {*self.intervals, *(self.certificate.parameters_at_bounds or ())}
        if not self.intervals:
            fitted |= {name for name, value in self.params.items() if value != 0}
        return {name: value for name, value in self.params.items() if name not in fitted}

    def predict(self, x: Inputs) -> Floats:
        """The fitted law's value at each point."""
        return self.law.predict(x)

    def draw_coordinates(self) -> Floats:
        """(draws, parameters) fitting coordinates of the draws. Raises UsageError for a fit made without draws."""
        if self.draws is None:
            raise UsageError(NO_DRAWS)
        return coordinates(self.law.parameters(), self.draws)

    def predictor(self, level: float | None = None) -> Predictor:
        """The law with its draws in fitting coordinates, for values with intervals at `level`, by default the fit's."""
        known = self.draws is not None and len(self.draws) > 0
        return Predictor(
            law=self.law,
            draws=self.draw_coordinates() if known else None,
            level=self.level if level is None else level,
            noise=self.noise,
        )

    def predict_interval(
        self, x: Inputs, level: float = 0.95, kind: Literal["confidence", "prediction"] = "confidence"
    ) -> tuple[Floats, Floats]:
        """(low, high) per point: of the mean loss (`confidence`) or of one new run's loss (`prediction`).

        The prediction interval adds the scatter of single runs about the law, `noise`, to the confidence interval.
        """
        predictor = self.predictor(level)
        drawn = predictor.drawn(x)
        return predictor.interval(drawn) if kind == "confidence" else predictor.interval_of_runs(drawn)

    def extrapolation(self, x: Inputs) -> list[str]:
        """Sentences saying how far the points lie outside the fitted ranges; empty if they lie inside."""
        given = {
            "n": x.n,
            "d_total": x.d_total,
            "bits": x.bits,
            "fraction": np.where(x.quantized, x.fraction, np.nan),
            "s_total": x.s_total,
        }
        sentences = []
        for key, values in given.items():
            known = values[~np.isnan(values)]
            if key not in self.ranges or not known.size:
                continue
            low, high = self.ranges[key]
            lowest, highest = float(known.min()), float(known.max())
            if highest > high * (1 + 1e-12):
                sentences.append(_beyond(key, highest, high / highest, (low, high), "above"))
            if lowest < low * (1 - 1e-12):
                sentences.append(_beyond(key, lowest, lowest / low, (low, high), "below"))
        return sentences

    def require_trust(self) -> None:
        """Raise NotTrustworthy, with the fit as evidence, unless its certificate holds."""
        if self.status is not Status.GOOD:
            raise NotTrustworthy(f"the fit of {self.law.name} is not trustworthy: {self.status.message}", evidence=self)

    def to_json(self) -> dict[str, Any]:
        """The JSON object: plain types, numbers that are not finite as null."""
        made = {
            **vars(self),
            "format": FORMAT,
            "law": self.law.name,
            "params": self.params,
            "starts": self.certificate.starts,
            "starts_agreeing": self.certificate.starts_agreeing,
            "criticism": self.diagnostics or {},
            "provenance": self.provenance or {},
            "status_message": self.status.message,
        }
        return {key: plain(made[key]) for key in _KEYS}

    def write(self, path: str | Path) -> None:
        """Write the JSON file atomically."""
        text = json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
        write_bytes(Path(path), text.encode())

    @staticmethod
    def from_json(value: Mapping[str, Any], origin: str = "fit") -> FittedLaw:
        """Build from the JSON object; raises DataError naming `origin` for an object that is no fit."""
        if value.get("format") != FORMAT:
            raise DataError(
                f"{origin} is not a qatplan fit (its format is {shorten(repr(value.get('format')))}, not {FORMAT!r})"
            )
        try:
            starts = {k: value[k] for k in ("starts", "starts_agreeing") if k in value}
            read = {
                **value,
                "law": get(_word(value, "law")).from_params(_params(_object(value, "params"))),
                "certificate": starts | _object(value, "certificate"),
                # A file that knows nothing of these has empty objects.
                "diagnostics": value.get("criticism") or None,
                "provenance": value.get("provenance") or None,
            }
            for name in ("intervals", "status"):
                if name not in read:
                    raise ValueError(f"{name} is missing")
            draws = read.pop("draws", None)
            made = parse(FittedLaw, read)
            _check(made)
            if draws is not None:
                made = replace(made, draws=_draws(draws, len(made.params)))
        except (UsageError, ValueError) as error:
            raise DataError(f"{origin} is a damaged fit: {str(error).rstrip('.')}.") from error
        return made if made.provenance is None else replace(made, provenance=made.provenance.public())

    @staticmethod
    def read(path: str | Path) -> FittedLaw:
        """Read a JSON file; raises DataError for a missing, unreadable or foreign file."""
        return FittedLaw.from_json(read_json(Path(path), "a fit"), str(path))


def _word(value: Mapping[str, Any], name: str) -> str:
    if not isinstance(value.get(name), str):
        raise ValueError(f"{name} is missing or no text")
    return str(value[name])


def _object(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(value.get(name, {}), dict):
        raise ValueError(f"{name} is no object")
    return dict(value.get(name, {}))


def _params(values: Mapping[str, Any]) -> dict[str, float]:
    """The parameters of a law, all of them numbers."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
            raise ValueError(f"parameter {name} is {shorten(repr(value))}, which is no finite number")
    return {name: float(value) for name, value in values.items()}


def _draws(rows: Any, count: int) -> Floats:
    """(draws, parameters) from a list of lists of numbers."""
    for number, row in enumerate(rows if isinstance(rows, list) else [None], 1):
        if not isinstance(row, list) or len(row) != count:
            raise ValueError(f"draws must be a list of lists of {count} numbers, and row {number} is none")
        for value in row:
            if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
                raise ValueError(f"row {number} of draws holds {shorten(repr(value))}, which is no finite number")
    return np.array(rows, dtype=np.float64).reshape(-1, count)


def _check(made: FittedLaw) -> None:
    """Raise ValueError for numbers of the right type that no fit has."""
    if not 0 < made.level < 1:
        raise ValueError(f"level is {made.level:g}, which is not between 0 and 1")
    for name, (low, high) in {**made.intervals, **made.ranges}.items():
        if low > high:
            raise ValueError(f"the range of {name} ends at {high:g} before it begins at {low:g}")
    for name, ends in made.ranges.items():
        if name not in _MEASURED or not min(ends) >= 0:
            raise ValueError(f"ranges.{name} is no range of {', '.join(_MEASURED)} from 0 on")
    if made.n_convention not in ("total", "nonembedding"):
        raise ValueError(f"n_convention is {shorten(repr(made.n_convention))}, which is not total or nonembedding")
    for name, value in (("rows", made.rows), ("noise", made.noise), ("seed_noise", made.seed_noise or 0.0)):
        if value < 0:
            raise ValueError(f"{name} is {value:g}, which is less than 0")
