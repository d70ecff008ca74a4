"""What there is to say of a law before any fit: formula, domain, source, parameters."""

from __future__ import annotations

from typing import Any

from qatplan.laws import Inputs, Law, QatFraction
from qatplan.wording.numbers import TEXT
from qatplan.wording.sections import Section, Table, section

_SOURCES = {
    "paper": "read in the paper",
    "code": "read in public code",
    "derived": "worked out here",
    "open": "our reconstruction",
    "own": "as its file says",
}


def law_object(law: type[Law]) -> dict[str, Any]:
    """The JSON object of a law in `qatplan laws`; `published` holds its published parameters, or None."""
    # Laws with parameters per bit width are shown at 4 bits with a group size, beside a full-precision point.
    points = Inputs.of(n=1e9, d_total=2e10, bits=[4, float("nan")], fraction=[0.5, 0.0], group_size=128)
    names = ("name", "title", "quantity", "formula", "domain", "sees_fraction", "source")
    published = QatFraction if law is QatFraction else getattr(law, "published", None)
    return {
        **{name: getattr(law, name) for name in names},
        "firmness": law.evidence,
        "parameters": [
            {name: getattr(p, name) for name in ("name", "unit", "lower", "upper", "meaning")}
            for p in law.for_inputs(points).parameters()
        ],
        "published": None if published is None else published().params(),
    }


def law_section(law: type[Law], *, parameters: bool) -> Section:
    """A law in a few lines, with its parameters where asked for."""
    known = law_object(law)
    published = known["published"] or {}
    rows = tuple((p["name"], p["unit"], p["meaning"]) for p in known["parameters"])
    headers: tuple[str, ...] = ("parameter", "unit", "meaning")
    if published:
        values = [TEXT.plain(published[name], 6) if name in published else None for name, *_ in rows]
        rows = tuple((name, value, *rest) for (name, *rest), value in zip(rows, values, strict=True))
        headers = ("parameter", "published", *headers[1:])
    return section(
        f"{law.name}: {law.title}",
        law.formula,
        f"domain: {law.domain}",
        f"source: {law.source} ({_SOURCES[law.evidence]})",
        Table(headers=headers, rows=rows, words=(len(headers) - 2, len(headers) - 1)) if parameters else None,
    )
