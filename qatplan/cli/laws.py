"""`qatplan laws`: the laws that exist, their formulas, sources and domains."""

from __future__ import annotations

from typing import Annotated

import typer

from qatplan.cli import options as opt
from qatplan.cli.output import plain, show


def laws(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME|FILE.toml]", help="Only this law, with its parameters.")
    ] = None,
    as_json: opt.Json = False,
) -> None:
    """List the laws: formula, source, domain, parameters.

    Example: qatplan laws qat-loss
    """
    from qatplan.laws import NAMES, get
    from qatplan.wording.laws import law_object, law_section

    found = [get(law) for law in (NAMES if name is None else (name,))]
    show(
        plain({"laws": [law_object(law) for law in found]}),
        lambda: [law_section(law, parameters=name is not None) for law in found],
        as_json,
    )
