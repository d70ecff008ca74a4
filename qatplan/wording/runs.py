"""What a table of runs spans, in words and tables."""

from __future__ import annotations

from qatplan.runs.summary import Count, Range, Size, Summary
from qatplan.units import format_count
from qatplan.wording.numbers import TEXT, Numbers
from qatplan.wording.sections import Section, Table, section

_LISTED = 20


def summary_sections(summary: Summary, *, numbers: Numbers = TEXT) -> list[Section]:
    """How many runs there are, what was varied, and each model size."""
    head = f"{summary.rows} runs: {_listing(summary.status)}; {format_count(summary.tokens)} tokens"
    if summary.trunks:
        head += f"; {summary.trunks} trunks"
    fractions = "unknown" if summary.fractions is None else numbers.span(*summary.fractions)
    varied = (
        ("bits per weight", _listing(summary.bits, "full precision")),
        ("QAT fraction", f"{fractions} ({summary.distinct_fractions} different)"),
        ("schedule", _listing(summary.schedules)),
        ("quantizer", _listing(summary.quantizers, "none named")),
        ("seed", _listing(summary.seeds)),
        ("loss", f"{_losses(summary.loss)} nats per token"),
    )
    more = len(summary.sizes) - _LISTED
    headers = ("N", "N without embeddings", "runs", "tokens", "tokens / N", "bits", "loss")
    sizes = Table(headers=headers, rows=tuple(_size(s, numbers) for s in summary.sizes[:_LISTED]), words=(5,))
    return [
        section("Runs", f"{head}."),
        section("What was varied", Table(headers=("", "values (runs)"), rows=varied, words=(0, 1))),
        section("Model sizes", sizes, f"and {more} more sizes" if more > 0 else None),
    ]


def _size(size: Size, numbers: Numbers) -> tuple[str | None, ...]:
    return (
        format_count(size.n_total),
        None if size.n_nonembedding is None else format_count(size.n_nonembedding),
        str(size.runs),
        _counts(size.d_total),
        None if size.tokens_per_parameter is None else numbers.span(*size.tokens_per_parameter),
        ", ".join("full" if b is None else f"{b:g}" for b in size.bits),
        _losses(size.loss),
    )


def _listing(counts: tuple[Count, ...], missing: str = "unknown") -> str:
    named = [
        f"{missing if c.value is None else f'{c.value:g}' if isinstance(c.value, float) else c.value} ({c.runs})"
        for c in counts[:_LISTED]
    ]
    more = f" and {len(counts) - _LISTED} more" if len(counts) > _LISTED else ""
    return (", ".join(named) or missing) + more


def _counts(found: Range) -> str | None:
    return None if found is None else _ends(*(format_count(v) for v in found))


def _losses(found: Range) -> str:
    return "unknown" if found is None else _ends(*(f"{v:.4f}" for v in found))


def _ends(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"
