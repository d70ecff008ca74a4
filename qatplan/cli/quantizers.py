"""`qatplan quantizers`: which quantizers there are."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from qatplan.cli.options import Json
from qatplan.cli.output import emit, table

if TYPE_CHECKING:
    from qatplan.quant.registry import QuantizerEntry

WIDTH = 100
LEGEND = (
    "A live range follows the values at hand, a learned one is trained. [paper] read in the paper, [code] in public "
    "code, [derived] worked out and checked here, [open] a reconstruction of what was not obtainable."
)


def quantizers(as_json: Json = False) -> None:
    """List the quantizers that a sweep may name: bits, granularity, formula and source.

    Example: qatplan quantizers --json
    """
    from qatplan.quant.registry import ENTRIES

    rows = [
        (
            entry.name,
            _bits(entry.bits),
            "symmetric" if entry.symmetric else "asymmetric",
            _ranges(entry),
            "/".join(entry.granularity),
            "/".join(entry.activations),
        )
        for entry in ENTRIES
    ]
    titles = ["name", "bits", "grid", "range", "weights: a range per", "activations"]
    details = "\n".join(
        f"{entry.name} [{entry.firmness}] {entry.source}\n{_indented(entry.formula)}" for entry in ENTRIES
    )
    text = f"{table(titles, rows)}\n\n{details}\n\n{textwrap.fill(LEGEND, WIDTH)}"
    emit({"quantizers": ENTRIES}, text, as_json)


def _bits(bits: tuple[float, ...]) -> str:
    """The bit widths with their whole numbers from 2 as a range: 1, 1.58, 2-8."""
    whole = [width for width in bits if width >= 2]
    return ", ".join([*(f"{width:g}" for width in bits if width < 2), f"{whole[0]:g}-{whole[-1]:g}"])


def _ranges(entry: QuantizerEntry) -> str:
    words = [word for word, holds in (("learned", entry.learnable), ("live", entry.live)) if holds]
    return ", ".join(words)


def _indented(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
