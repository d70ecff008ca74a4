"""`qatplan quantizers`: which quantizers there are."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from qatplan.cli import options as opt
from qatplan.cli.output import emit, table

if TYPE_CHECKING:
    from qatplan.quant.registry import QuantizerEntry

WIDTH = 100
LEGEND = (
    "A live range follows the values at hand, a learned one is trained. [paper] read in the paper, [code] in public "
    "code, [derived] worked out and checked here, [open] a reconstruction of what was not obtainable."
)


def quantizers(as_json: opt.Json = False) -> None:
    """List the quantizers that a sweep may name: bits, granularity, formula and source.

    Example: qatplan quantizers --json
    """
    from qatplan.quant.registry import ENTRIES

    titles = ["name", "bits", "grid", "range", "weights: a range per", "activations"]
    rows = [
        (e.name, _bits(e.bits), "symmetric" if e.symmetric else "asymmetric", _ranges(e), "/".join(e.granularity),
         "/".join(e.activations))
        for e in ENTRIES
    ]  # fmt: skip
    details = "\n".join(f"{e.name} [{e.evidence}] {e.source}\n{_indented(e.formula)}" for e in ENTRIES)
    text = f"{table(titles, rows)}\n\n{details}\n\n{textwrap.fill(LEGEND, WIDTH)}"
    shown = [{"firmness" if k == "evidence" else k: value for k, value in vars(e).items()} for e in ENTRIES]
    emit({"quantizers": shown}, text, as_json)


def _bits(bits: tuple[float, ...]) -> str:
    """The bit widths with their whole numbers from 2 as a range: 1, 1.58, 2-8."""
    whole = [width for width in bits if width >= 2]
    return ", ".join([*(f"{width:g}" for width in bits if width < 2), f"{whole[0]:g}-{whole[-1]:g}"])


def _ranges(entry: QuantizerEntry) -> str:
    return ", ".join(word for word, holds in (("learned", entry.learnable), ("live", entry.live)) if holds)


def _indented(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
