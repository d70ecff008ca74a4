"""`fit`: from a table of runs to a fitted law, by the means that suit the law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from qatplan.errors import UsageError
from qatplan.fitting.fraction_law import fit_fraction
from qatplan.fitting.loss_law import fit_loss_law
from qatplan.fitting.options import FitOptions
from qatplan.fitting.surface_law import fit_surface
from qatplan.laws.fitted import FittedLaw
from qatplan.laws.fraction_surface import FractionSurface
from qatplan.laws.registry import get

_OF_LOSS_LAWS = (
    "huber", "interval", "holdout", "leave_one_size_out", "keep_tuning", "restrict", "effects", "starts", "resample",
)  # fmt: skip


def fit(
    table: Any, options: FitOptions | None = None, *, sources: Sequence[str] = (), command: str | None = None,
    loss_law: bool = True,
) -> FittedLaw:  # fmt: skip
    """Fit a law to a runs table (Arrow) or to a mapping of columns with our field names.

    `sources` and `command` are recorded in the fit. With `loss_law` a fit of the fraction law compares itself with the
    optima of the loss law, which is fitted too. Raises UsageError for options that do not suit the law, and
    DataError for rows that cannot be used.
    """
    options = options or FitOptions()
    law = get(options.law)
    options = replace(options, law=law)
    if law.quantity != "fraction":
        return fit_loss_law(table, options, sources=sources, command=command)
    for name in _OF_LOSS_LAWS:
        if getattr(options, name) != getattr(FitOptions(), name):
            raise UsageError(
                f"{name.replace('_', '-')} has no meaning for law {law.name}, which is fitted to minima of curves; "
                "leave it out"
            )
    if law is FractionSurface:
        return fit_surface(table, options, sources=sources, command=command)
    return fit_fraction(table, options, loss_law=loss_law, sources=sources, command=command)
