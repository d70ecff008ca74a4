"""What `qatplan runs` says: what a table spans, what its columns are, and which of its rows cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from qatplan.units import format_count
from qatplan.wording.numbers import span
from qatplan.wording.sections import Section, Table, bullets, section

if TYPE_CHECKING:
    from qatplan.runs.schema import Field
    from qatplan.runs.summary import Count, Range, Size, Summary
    from qatplan.runs.table import FileProblem

SHOWN = 20
"""Values, sizes and rows that are listed; --json has all of them."""


def summary_sections(summary: Summary) -> list[Section]:
    """How many runs, which settings and losses, and each model size."""
    trunks = f" on {summary.trunks} trunks" if summary.trunks else ""
    spanned = (
        ("status", _listed(summary.status)),
        ("bits", _listed(summary.bits, missing="full precision")),
        ("fraction", f"{_span(summary.fractions)} ({summary.distinct_fractions} distinct, of quantized runs)"),
        ("schedule", _listed(summary.schedules)),
        ("quantizer", _listed(summary.quantizers)),
        ("seed", _listed(summary.seeds)),
        ("loss", _span(summary.loss, 5) + (" nats per token" if summary.loss else "")),
        *((("", f"{_span(summary.bits_per_byte, 5)} bits per byte"),) if summary.bits_per_byte else ()),
    )
    sizes = Table(
        headers=("N", "non-emb.", "runs", "tokens", "tokens/N", "bits", "loss"),
        rows=tuple(_size(size) for size in summary.sizes[:SHOWN]),
        words=(3, 4, 5, 6),
    )
    return [
        section(
            f"{summary.rows} runs, {format_count(summary.tokens)} tokens{trunks}",
            Table(headers=("column", "values (runs)"), rows=spanned, words=(1,)),
        ),
        section("Sizes", sizes, more(len(summary.sizes), SHOWN, "sizes")),
    ]


def problem_section(problems: Sequence[FileProblem]) -> Section:
    """Rows that cannot be used, with the reason."""
    shown = bullets(*(str(problem) for problem in problems[:SHOWN]))
    return section("Rows that cannot be used", shown, more(len(problems), SHOWN, "rows"), warning=True)


def field_section(fields: Sequence[Field]) -> Section:
    """Every column with its type, meaning and unit."""
    rows = tuple(
        (f.name, str(f.type).partition("<")[0], f.meaning + (f" [{f.unit}]" if f.unit else "")) for f in fields
    )
    return section("Columns", Table(headers=("field", "type", "meaning [unit]"), rows=rows, words=(2,)))


def more(count: int, shown: int, what: str) -> str | None:
    """How many of a list are left out, or nothing."""
    return f"... and {count - shown} more {what} (all of them with --json)" if count > shown else None


def _size(size: Size) -> tuple[str | None, ...]:
    return (
        format_count(size.n_total),
        None if size.n_nonembedding is None else format_count(size.n_nonembedding),
        str(size.runs),
        _span(size.d_total, show=format_count),
        _span(size.tokens_per_parameter),
        ", ".join("FP" if bits is None else f"{bits:g}" for bits in size.bits),
        _span(size.loss, 4),
    )


def _listed(counts: Sequence[Count], missing: str = "unknown") -> str:
    values = [missing if c.value is None else f"{c.value:g}" if isinstance(c.value, float) else c.value for c in counts]
    shown = [f"{value} ({count.runs})" for value, count in zip(values[:SHOWN], counts, strict=False)]
    return ", ".join(shown or ["unknown"]) + (f" and {len(counts) - SHOWN} more" if len(counts) > SHOWN else "")


def _span(extremes: Range, digits: int = 3, show: Callable[[float], str] | None = None) -> str:
    if extremes is None:
        return "unknown"
    if show is None:
        return span(*extremes, digits)
    low, high = map(show, extremes)
    return low if low == high else f"{low} to {high}"


def listed(names: Sequence[str], shown: int = 20) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest} more" if rest > 0 else "")
