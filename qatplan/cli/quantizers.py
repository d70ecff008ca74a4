"""`qatplan quantizers`: which quantizers there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qatplan.cli import options as opt
from qatplan.cli.output import show

if TYPE_CHECKING:
    from qatplan.quant.registry import QuantizerEntry

LEGEND = (
    "A live range follows the values at hand, a learned one is trained. [paper] read in the paper, [code] in public "
    "code, [derived] worked out and checked here, [open] a reconstruction of what was not obtainable."
)


def quantizers(as_json: opt.Json = False) -> None:
    """List the quantizers that a sweep may name.

    Example: qatplan quantizers --json
    """
    from qatplan.quant.registry import ENTRIES
    from qatplan.wording.sections import Table, section

    rows = tuple(
        (e.name, _bits(e.bits), "symmetric" if e.symmetric else "asymmetric", _ranges(e), ", ".join(e.activations))
        for e in ENTRIES
    )
    table = Table(headers=("name", "bits", "grid", "range", "activations"), rows=rows)
    about = [
        section(f"{e.name} [{e.evidence}]", e.source, e.formula, f"A range per {', '.join(e.granularity)} of weights.")
        for e in ENTRIES
    ]
    shown = [{"firmness" if k == "evidence" else k: value for k, value in vars(e).items()} for e in ENTRIES]
    show({"quantizers": shown}, lambda: [section("Quantizers", table, LEGEND), *about], as_json)


def _bits(bits: tuple[float, ...]) -> str:
    """The bit widths with their whole numbers from 2 as a range: 1, 1.58, 2-8."""
    whole = [width for width in bits if width >= 2]
    return ", ".join([*(f"{width:g}" for width in bits if width < 2), f"{whole[0]:g}-{whole[-1]:g}"])


def _ranges(entry: QuantizerEntry) -> str:
    return ", ".join(word for word, holds in (("learned", entry.learnable), ("live", entry.live)) if holds)
