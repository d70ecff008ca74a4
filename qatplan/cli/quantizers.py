"""`qatplan quantizers`: which quantizers there are."""

from __future__ import annotations

from qatplan.cli.options import Json
from qatplan.cli.output import emit, table


def quantizers(as_json: Json = False) -> None:
    """List the quantizers that a sweep may name: bits, granularity, formula and source.

    Example: qatplan quantizers --json
    """
    from qatplan.quant.registry import ENTRIES

    rows = [
        (
            entry.name,
            ", ".join(f"{bits:g}" for bits in entry.bits),
            ", ".join(entry.granularity),
            "symmetric" if entry.symmetric else "asymmetric",
            "learned" if entry.learnable else "fixed",
            "live" if entry.live else "kept",
            f"{entry.source} [{entry.firmness}]",
        )
        for entry in ENTRIES
    ]
    formulas = "\n".join(f"{entry.name}: {entry.formula}" for entry in ENTRIES)
    text = f"{table(['name', 'bits', 'a range per', 'grid', 'range is', 'and', 'source'], rows)}\n\n{formulas}"
    emit({"quantizers": ENTRIES}, text, as_json)
