"""`qatplan laws`: the laws that exist, their formulas, sources and domains."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from qatplan.cli.options import Json
from qatplan.cli.output import emit, table

_FIRMNESS = {
    "paper": "read in the paper",
    "code": "read in public code",
    "derived": "worked out here",
    "open": "our reconstruction",
}


def laws(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this law, with its parameters.")] = None,
    as_json: Json = False,
) -> None:
    """List the laws: formula, source, domain, parameters.

    Example: qatplan laws qat-loss
    """
    from qatplan.laws import NAMES, get

    chosen = NAMES if name is None else (name,)
    found = [_entry(get(law)) for law in chosen]
    text = "\n\n".join(_text(entry, parameters=name is not None) for entry in found)
    emit({"laws": found}, text, as_json)


def _entry(law: Any) -> dict[str, Any]:
    from qatplan.laws import Inputs

    # Laws with parameters per bit width are shown at 4 bits with a group size, beside a full-precision point.
    points = Inputs.of(n=1e9, d_total=2e10, bits=[4, float("nan")], fraction=[0.5, 0.0], group_size=128)
    parameters = law.for_inputs(points).parameters()
    published = getattr(law, "published", None)
    constants = (
        published().params() if published is not None else law().params() if law.name == "qat-fraction" else None
    )
    return {
        "name": law.name,
        "title": law.title,
        "quantity": law.quantity,
        "formula": law.formula,
        "domain": law.domain,
        "sees_fraction": law.sees_fraction,
        "source": law.source,
        "firmness": law.firmness,
        "parameters": [
            {"name": p.name, "unit": p.unit, "lower": p.lower, "upper": p.upper, "meaning": p.meaning}
            for p in parameters
        ],
        "published": constants,
    }


def _text(entry: dict[str, Any], *, parameters: bool) -> str:
    lines = [
        f"{entry['name']}: {entry['title']}",
        f"  {entry['formula']}",
        f"  domain: {entry['domain']}",
        f"  source: {entry['source']} ({_FIRMNESS[entry['firmness']]})",
    ]
    if not parameters:
        return "\n".join(lines)
    published = entry["published"] or {}
    body = [
        [p["name"], f"{published[p['name']]:g}" if p["name"] in published else None, p["unit"], p["meaning"]]
        for p in entry["parameters"]
    ]
    return "\n".join([*lines, "", table(["parameter", "published", "unit", "meaning"], body)])
