"""Curves against data: what was measured beside what the law says, and what the law leaves unexplained."""

from __future__ import annotations

import math
from typing import Any

from qatplan.laws.fit_parts import FractionDiagnostics, LossDiagnostics
from qatplan.report.drawings import Drawings
from qatplan.report.markup import (
    Markup,
    join,
    paragraph,
    section,
    table,
)
from qatplan.report.material import Material
from qatplan.units import format_count
from qatplan.wording.numbers import (
    percent,
    plain,
    signed_percent,
    span,
)

_LISTED = 60


def curves_section(material: Material, drawings: Drawings) -> Markup:
    """Figures of the runs with the law, the tables of residuals, and the measured optima of a fraction law."""
    fitted = material.fitted
    kinds = ["loss-curves"] if material.table is not None else []
    if material.used is not None and fitted.law.quantity == "loss":
        kinds.append("residuals")
    if fitted.law.sees_fraction or fitted.law.quantity == "fraction" or material.table is not None:
        kinds.append("fraction")
    parts = drawings.figures(kinds)
    if material.table is None:
        parts.insert(0, paragraph("Curves through the points need the runs: give them with --runs.", class_="note"))
    return section("curves", "The law against the data", join(parts, "\n"), _residuals(material), _optima(material))


def _residuals(material: Material) -> Markup:
    found = material.fitted.diagnostics
    if not isinstance(found, LossDiagnostics):
        return Markup("")
    titles = {"bits": "bits", "n": "parameters", "fraction": "QAT fraction"}
    parts = []
    for key, title in titles.items():
        if rows := getattr(found.residuals, key):
            body = [
                (
                    _value(row.value, key), row.rows, signed_percent(row.mean),
                    None if row.sd is None else percent(row.sd), percent(row.largest),
                )
                for row in rows
            ]  # fmt: skip
            headers = (title, "runs", "mean", "standard deviation", "largest")
            parts.append(table(f"Predicted over measured loss, by {title}", headers, body, words=()))
    if not parts:
        return Markup("")
    said = paragraph(
        "In the tables, a mean above zero means that the law promises too high a loss there. Means well inside the "
        "standard deviation are noise."
    )
    return join([said, *parts], "\n")


def _value(value: Any, key: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return span(*value) if key != "n" else f"{format_count(value[0])} to {format_count(value[1])}"
    return format_count(value) if key == "n" else plain(float(value), 3)


def _optima(material: Material) -> Markup:
    found = material.fitted.diagnostics
    curves = found.curves if isinstance(found, FractionDiagnostics) else ()
    rows = [
        (
            format_count(c.n), format_count(c.d_total), f"{c.bits:g}", plain(c.s_total, 3), _fraction(c.optimum),
            "" if c.interval is None or math.isnan(c.interval[0]) else f"{c.interval[0]:.3f} to {c.interval[1]:.3f}",
            _fraction(c.refitted_law), _fraction(c.published_law), c.note or "",
        )
        for c in curves[:_LISTED]
    ]  # fmt: skip
    if not rows:
        return Markup("")
    headers = ("parameters", "tokens", "bits", "S", "measured best fraction", "interval", "fitted law",
               "published law", "remark")  # fmt: skip
    more = len(curves) - _LISTED
    grid = table("Measured optima", headers, rows, words=(8,))
    return join([grid, paragraph(f"and {more} more curves", class_="note") if more > 0 else None])


def _fraction(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
